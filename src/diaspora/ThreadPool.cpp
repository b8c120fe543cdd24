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
    : in_core_(in_their_terms([&] { return octopus::ThreadPool(core(), threads.count); })), threads_(threads.count)
{
}

diaspora::ThreadCount ThreadPool::threadCount() const { return diaspora::ThreadCount{threads_}; }

void ThreadPool::pushWork(std::function<void()> function, std::uint64_t priority)
{
    if (!function)
        throw diaspora::Exception("pushing work to a thread pool: the function is empty");
    if (threads_ == 0)
        return function();
    /* Counted until the pool has let go of it, run or not. */
    unfinished_->fetch_add(1);
    std::shared_ptr<void> count(nullptr, [unfinished = unfinished_](void *) { unfinished->fetch_sub(1); });
    in_their_terms([&] {
        in_core_.submit([function = std::move(function), count = std::move(count)] { function(); }, priority);
    });
}

std::size_t ThreadPool::size() const { return unfinished_->load(); }

namespace {

/* A pool of the user's, as the core knows one. */
class UsersPool final : public HostPool {
public:
    explicit UsersPool(std::shared_ptr<diaspora::ThreadPoolInterface> pool) : pool_(std::move(pool)) {}

    /* The core lets go of a pool on whichever thread it had its last work done, one of the pool's own among them, and a
     * PosixThreadPool that is destroyed waits for all of its threads. */
    ~UsersPool() override
    {
        try {
            std::thread([pool = std::move(pool_)]() mutable { pool.reset(); }).detach();
        } catch (const std::system_error &) {
            /* Without another thread it is destroyed on this one. */
        }
    }

    void submit(Task task, std::uint64_t priority) override { pool_->pushWork(std::move(task), priority); }
    std::uint64_t pending() const override { return pool_->size(); }
    std::uint64_t thread_count() const override { return pool_->threadCount().count; }

private:
    std::shared_ptr<diaspora::ThreadPoolInterface> pool_;
};

/* The pools of users that the core knows, keyed by the owner, which no two pools share, not by an address that another pool
 * may have later. */
struct KnownPools {
    const pid_t process = getpid();
    std::mutex mutex;
    std::map<std::weak_ptr<diaspora::ThreadPoolInterface>, std::weak_ptr<const octopus::ThreadPool>, std::owner_less<>>
        pools;
};

/* Never destroyed, for threads that outlive main. A forked child has its own: a thread that the child doesn't have may hold
 * the parent's mutex, and the core's pools are the parent's, too. */
KnownPools &known_pools()
{
    static std::atomic<KnownPools *> current{nullptr};
    KnownPools *known = current.load();
    while (!known || known->process != getpid()) {
        auto made = std::make_unique<KnownPools>();
        if (current.compare_exchange_strong(known, made.get()))
            return *made.release();
    }
    return *known;
}

} // namespace

std::shared_ptr<const octopus::ThreadPool> for_the_core(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool)
{
    if (const auto ours = std::dynamic_pointer_cast<ThreadPool>(pool))
        return {ours, &ours->in_core()};
    KnownPools &known_here = known_pools();
    const std::lock_guard<std::mutex> lock(known_here.mutex);
    auto &pools = known_here.pools;
    for (auto entry = pools.begin(); entry != pools.end();)
        entry = entry->second.expired() ? pools.erase(entry) : std::next(entry);
    if (const auto known = pools.find(pool); known != pools.end())
        if (auto in_core = known->second.lock())
            return in_core;
    const auto made = std::make_shared<const octopus::ThreadPool>(
        in_their_terms([&] { return octopus::ThreadPool(core(), std::make_unique<UsersPool>(pool)); }));
    pools.insert_or_assign(pool, made);
    return made;
}

} // namespace octopus::adapter
