/* Thread pools in both directions: pools of the core for users of the API, and pools of the user
 * for the core. */

#ifndef OCTOPUS_DIASPORA_THREAD_POOL_HPP
#define OCTOPUS_DIASPORA_THREAD_POOL_HPP

#include "Core.hpp"

#include <diaspora/ThreadPool.hpp>

#include <atomic>
#include <memory>

namespace octopus::adapter {

/* A thread pool of the core. */
class ThreadPool final : public diaspora::ThreadPoolInterface {
public:
    explicit ThreadPool(diaspora::ThreadCount threads);

    diaspora::ThreadCount threadCount() const override;
    /* A pool without threads runs the function on the calling thread and passes on what it throws.
     * An exception on a thread of the pool ends the program. */
    void pushWork(std::function<void()> function, std::uint64_t priority) override;
    /* The number of functions that are queued or running. */
    std::size_t size() const override;

    const octopus::ThreadPool &in_core() const { return in_core_; }

private:
    octopus::ThreadPool in_core_;
    std::size_t threads_;
    std::shared_ptr<std::atomic<std::size_t>> unfinished_ =
        std::make_shared<std::atomic<std::size_t>>(0);
};

/* Returns the core's object for a pool. It is the same object for the same pool, so that the core
 * can tell whether it runs on a thread of that pool. The core holds the pool while it has work for
 * it. */
std::shared_ptr<const octopus::ThreadPool>
for_the_core(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool);

} // namespace octopus::adapter

#endif
