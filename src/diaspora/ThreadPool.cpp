#include "ThreadPool.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include <unistd.h>

namespace octopus::adapter {

ThreadPool::ThreadPool(diaspora::ThreadCount threads)
    : in_core_(with_api_exceptions([&] { return octopus::ThreadPool(core(), threads.count); })),
      threads_(threads.count)
{
}

diaspora::ThreadCount ThreadPool::threadCount() const { return diaspora::ThreadCount{threads_}; }

void ThreadPool::pushWork(std::function<void()> function, std::uint64_t priority)
{
    if (!function)
        throw diaspora::Exception("pushing work to a thread pool: the function is empty");
    if (threads_ == 0)
        return function();
    /* The task is counted until the pool has destroyed it, even if it never runs. */
    unfinished_->fetch_add(1);
    std::shared_ptr<void> count(nullptr,
                                [unfinished = unfinished_](void *) { unfinished->fetch_sub(1); });
    with_api_exceptions([&] {
        in_core_.submit([function = std::move(function), count = std::move(count)] { function(); },
                        priority);
    });
}

std::size_t ThreadPool::size() const { return unfinished_->load(); }

namespace {

/* Makes a pool of the user available to the core. */
class UserPool final : public HostPool {
public:
    explicit UserPool(std::shared_ptr<diaspora::ThreadPoolInterface> pool) : pool_(std::move(pool))
    {
    }

    /* The core may release a pool on any thread, such as a thread of that pool. The destructor of a
     * PosixThreadPool waits for all of its threads, so it must run on another one. */
    ~UserPool() override
    {
        try {
            std::thread([pool = std::move(pool_)]() mutable { pool.reset(); }).detach();
        } catch (const std::system_error &) {
            /* If no thread can be created, the pool is destroyed on this one. */
        }
    }

    void submit(Task task, std::uint64_t priority) override
    {
        pool_->pushWork(std::move(task), priority);
    }
    std::uint64_t pending() const override { return pool_->size(); }
    std::uint64_t thread_count() const override { return pool_->threadCount().count; }

private:
    std::shared_ptr<diaspora::ThreadPoolInterface> pool_;
};

/* The user's pools that the core knows. The key is the owner of the shared pointer, which is
 * unique, while a later pool may have the same address. */
struct KnownPools {
    const pid_t process = getpid();
    std::mutex mutex;
    std::map<std::weak_ptr<diaspora::ThreadPoolInterface>, std::weak_ptr<const octopus::ThreadPool>,
             std::owner_less<>>
        pools;
};

/* Never destroyed, since threads may outlive main. A forked child creates a new object: a thread of
 * the parent may have held the mutex at the fork, and the core's pools belong to the parent. */
KnownPools &known_pools()
{
    static std::atomic<KnownPools *> current{nullptr};
    KnownPools *known = current.load();
    while (!known || known->process != getpid()) {
        auto created = std::make_unique<KnownPools>();
        if (current.compare_exchange_strong(known, created.get()))
            return *created.release();
    }
    return *known;
}

} // namespace

std::shared_ptr<const octopus::ThreadPool>
for_the_core(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool)
{
    if (const auto ours = std::dynamic_pointer_cast<ThreadPool>(pool))
        return {ours, &ours->in_core()};
    KnownPools &known_pools_here = known_pools();
    const std::lock_guard<std::mutex> lock(known_pools_here.mutex);
    auto &pools = known_pools_here.pools;
    for (auto entry = pools.begin(); entry != pools.end();)
        entry = entry->second.expired() ? pools.erase(entry) : std::next(entry);
    if (const auto known = pools.find(pool); known != pools.end())
        if (auto in_core = known->second.lock())
            return in_core;
    const auto created = std::make_shared<const octopus::ThreadPool>(with_api_exceptions(
        [&] { return octopus::ThreadPool(core(), std::make_unique<UserPool>(pool)); }));
    pools.insert_or_assign(pool, created);
    return created;
}

} // namespace octopus::adapter
