/* Thread pools: the plugin's and yours. A part of octopus.hpp. */

#ifndef OCTOPUS_THREAD_POOL_HPP
#define OCTOPUS_THREAD_POOL_HPP

#include "detail.hpp"
#include "library.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace octopus {

/* A piece of work that the plugin hands to a pool of yours. Copies are the same piece, which runs at most once; when the last
 * of them goes without having run, what it was about fails. */
class Task {
public:
    void operator()() const
    {
        if (!shared_->has_run.exchange(true))
            shared_->task.function(shared_->task.context);
    }

private:
    friend class ThreadPool;

    struct Shared {
        octopus_task task;
        std::atomic<bool> has_run{false};
        bool is_ours = true;
        explicit Shared(const octopus_task &given) : task(given) {}
        ~Shared()
        {
            if (is_ours && task.destroy)
                task.destroy(task.context);
        }
    };

    explicit Task(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

    std::shared_ptr<Shared> shared_;
};

/* A pool of yours. Its functions are called from any thread, also at the same time; the plugin's tasks wait for nobody. */
class HostPool {
public:
    virtual ~HostPool() = default;
    /* Runs the task once, now or later; higher priorities first, OCTOPUS_PRIORITY_HIGHEST ahead of all. What it throws refuses it. */
    virtual void submit(Task task, std::uint64_t priority) = 0;
    /* Tasks that wait for a thread. */
    virtual std::uint64_t pending() const = 0;
    /* Threads that run tasks; 0 when `submit` runs them itself. */
    virtual std::uint64_t thread_count() const = 0;
};

/* Threads that work is done on. Destroying the handle ends nothing that was submitted. */
class ThreadPool {
public:
    /* A pool of so many threads; of none, which runs work in the caller. */
    ThreadPool(const Library &library, std::uint64_t threads)
        : handle_(detail::make<octopus_thread_pool>(library.api(), library.api().thread_pool->create, threads))
    {
    }

    /* A pool of yours, which is destroyed after its last use: on any thread, one of its own included. */
    ThreadPool(const Library &library, std::unique_ptr<HostPool> pool)
        : handle_(from_host(library.api(), std::move(pool)))
    {
    }

    /* Has `work` run; must not throw. */
    void submit(std::function<void()> work, std::uint64_t priority = OCTOPUS_PRIORITY_HIGHEST) const
    {
        using Work = std::function<void()>;
        octopus_task task{};
        task.context = detail::give_away(std::make_unique<Work>(std::move(work)));
        task.destroy = detail::destroy<Work>;
        task.function = [](void *context) noexcept { (*static_cast<Work *>(context))(); };
        detail::call(handle_.api(), handle_.api().thread_pool->submit, handle_.get(), &task, priority);
    }

    /* Tasks that wait for a thread. */
    std::uint64_t pending() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().thread_pool->pending, handle_.get());
    }

    /* Threads that run tasks; 0 when they run in the caller. */
    std::uint64_t thread_count() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().thread_pool->thread_count, handle_.get());
    }

private:
    friend class Driver;
    friend class Topic;
    friend class Consumer;

    explicit ThreadPool(detail::Handle<octopus_thread_pool> handle) : handle_(std::move(handle)) {}

    static octopus_status submit_to_host(void *context, const octopus_task *given, std::uint64_t priority) noexcept
    {
        std::shared_ptr<Task::Shared> shared;
        try {
            shared = std::make_shared<Task::Shared>(*given);
            static_cast<HostPool *>(context)->submit(Task(shared), priority);
            return OCTOPUS_OK;
        } catch (...) {
            /* The pool may have kept the task, or run it, before it threw: then it has taken it over. */
            if (shared && (shared.use_count() > 1 || shared->has_run))
                return OCTOPUS_OK;
            if (shared)
                shared->is_ours = false;
            return OCTOPUS_CALLBACK_FAILED;
        }
    }

    static detail::Handle<octopus_thread_pool> from_host(const octopus_api &api, std::unique_ptr<HostPool> pool)
    {
        auto functions = detail::sized<octopus_pool_functions>();
        functions.context = detail::give_away(std::move(pool));
        functions.destroy = detail::destroy<HostPool>;
        functions.submit = submit_to_host;
        functions.pending = [](void *context) noexcept { return static_cast<HostPool *>(context)->pending(); };
        functions.thread_count = [](void *context) noexcept {
            return static_cast<HostPool *>(context)->thread_count();
        };
        return detail::make<octopus_thread_pool>(api, api.thread_pool->from_host, &functions);
    }

    detail::Handle<octopus_thread_pool> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_THREAD_POOL_HPP */
