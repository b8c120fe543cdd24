#include "ThreadPool.hpp"

#include <map>
#include <mutex>
#include <system_error>
#include <thread>

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

} // namespace

std::shared_ptr<const octopus::ThreadPool> for_the_core(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool)
{
    if (const auto ours = std::dynamic_pointer_cast<ThreadPool>(pool))
        return {ours, &ours->in_core()};
    /* Keyed by the owner, which no two pools share, not by an address that another pool may have later. */
    using Pools = std::map<std::weak_ptr<diaspora::ThreadPoolInterface>, std::weak_ptr<const octopus::ThreadPool>,
                           std::owner_less<>>;
    static std::mutex mutex;
    static auto &pools = *std::make_unique<Pools>().release(); /* for threads that outlive main */
    const std::lock_guard<std::mutex> lock(mutex);
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
