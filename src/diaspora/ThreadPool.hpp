/* Thread pools, in both directions: the core's for users of the API, and any pool of theirs for the core. */

#ifndef OCTOPUS_DIASPORA_THREAD_POOL_HPP
#define OCTOPUS_DIASPORA_THREAD_POOL_HPP

#include "Core.hpp"

#include <diaspora/ThreadPool.hpp>

#include <atomic>
#include <memory>

namespace octopus::adapter {

/* A pool of the core's. */
class ThreadPool final : public diaspora::ThreadPoolInterface {
public:
    explicit ThreadPool(diaspora::ThreadCount threads);

    diaspora::ThreadCount threadCount() const override;
    /* Without threads the function runs here, and what it throws comes out; on a thread of the pool that ends the program. */
    void pushWork(std::function<void()> function, std::uint64_t priority) override;
    /* Functions that wait or run. */
    std::size_t size() const override;

    const octopus::ThreadPool &in_core() const { return in_core_; }

private:
    octopus::ThreadPool in_core_;
    std::size_t threads_;
    std::shared_ptr<std::atomic<std::size_t>> unfinished_ = std::make_shared<std::atomic<std::size_t>>(0);
};

/* What the core is to be given for a pool: the same for the same pool, so that it knows when it is on that one's threads. The
 * core keeps the pool for as long as it has work for it. */
std::shared_ptr<const octopus::ThreadPool> for_the_core(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool);

} // namespace octopus::adapter

#endif
