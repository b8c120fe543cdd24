/// @file
/// Thread pools of the plugin and of the host. Part of octopus.hpp.

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

/// A task of the plugin for a pool of the host.
///
/// Copies refer to the same task, which runs at most once. If the last copy is destroyed before the
/// task ran, the task has failed.
///
/// @since 0.1
class Task {
public:
    /// Runs the task, unless it ran already.
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
        bool owns_task = true;
        explicit Shared(const octopus_task &given) : task(given) {}
        ~Shared()
        {
            if (owns_task && task.destroy)
                task.destroy(task.context);
        }
    };

    explicit Task(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

    std::shared_ptr<Shared> shared_;
};

/// A thread pool of the host.
///
/// Any thread may call its functions, several threads also at the same time. Tasks of the plugin
/// never wait for other tasks.
///
/// @since 0.1
class HostPool {
public:
    virtual ~HostPool() = default;
    /// Runs a task once, during the call or later. An exception rejects the task.
    ///
    /// @param task The task.
    /// @param priority The priority; higher ones first, OCTOPUS_PRIORITY_HIGHEST before all others.
    virtual void submit(Task task, std::uint64_t priority) = 0;
    /// @return The number of tasks that wait for a thread. Must not throw.
    virtual std::uint64_t pending() const = 0;
    /// @return The number of threads that run tasks; 0 if `submit` runs them itself. Must not
    /// throw.
    virtual std::uint64_t thread_count() const = 0;
};

/// A thread pool. Tasks that were submitted still run after the handle is destroyed.
///
/// @since 0.1
class ThreadPool {
public:
    /// Creates a pool with threads of the plugin.
    ///
    /// @param library The plugin.
    /// @param threads The number of threads, at most 4,096. With 0, `submit` runs tasks itself.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT or OCTOPUS_RESOURCE_LIMIT.
    ThreadPool(const Library &library, std::uint64_t threads)
        : handle_(detail::make<octopus_thread_pool>(library.api(),
                                                    library.api().thread_pool->create, threads))
    {
    }

    /// Creates a pool of the host.
    ///
    /// @param library The plugin.
    /// @param pool The pool. It is destroyed after its last use, on any thread, possibly on one of
    /// its own.
    ThreadPool(const Library &library, std::unique_ptr<HostPool> pool)
        : handle_(from_host(library.api(), std::move(pool)))
    {
    }

    /// Submits work. Does not wait for it, unless the pool has no threads.
    ///
    /// @param work The work. It must not throw.
    /// @param priority The priority; higher ones first, OCTOPUS_PRIORITY_HIGHEST before all others.
    /// @throws Error with OCTOPUS_CALLBACK_FAILED if a pool of the host rejected it.
    void submit(std::function<void()> work, std::uint64_t priority = OCTOPUS_PRIORITY_HIGHEST) const
    {
        using Work = std::function<void()>;
        octopus_task task{};
        task.context = detail::into_context(std::make_unique<Work>(std::move(work)));
        task.destroy = detail::destroy<Work>;
        task.function = [](void *context) noexcept { (*static_cast<Work *>(context))(); };
        detail::call(handle_.api(), handle_.api().thread_pool->submit, handle_.get(), &task,
                     priority);
    }

    /// @return The number of tasks that wait for a thread.
    std::uint64_t pending() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().thread_pool->pending,
                                          handle_.get());
    }

    /// @return The number of threads that run tasks; 0 if `submit` runs them itself.
    std::uint64_t thread_count() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().thread_pool->thread_count,
                                          handle_.get());
    }

private:
    friend class Driver;
    friend class Topic;
    friend class Consumer;

    explicit ThreadPool(detail::Handle<octopus_thread_pool> handle) : handle_(std::move(handle)) {}

    static octopus_status submit_to_host(void *context, const octopus_task *given,
                                         std::uint64_t priority) noexcept
    {
        std::shared_ptr<Task::Shared> shared;
        try {
            shared = std::make_shared<Task::Shared>(*given);
            static_cast<HostPool *>(context)->submit(Task(shared), priority);
            return OCTOPUS_OK;
        } catch (...) {
            /* A pool that kept or ran the task before it threw owns the task. */
            if (shared && (shared.use_count() > 1 || shared->has_run))
                return OCTOPUS_OK;
            if (shared)
                shared->owns_task = false;
            return OCTOPUS_CALLBACK_FAILED;
        }
    }

    static detail::Handle<octopus_thread_pool> from_host(const octopus_api &api,
                                                         std::unique_ptr<HostPool> pool)
    {
        auto functions = detail::sized<octopus_pool_functions>();
        functions.context = detail::into_context(std::move(pool));
        functions.destroy = detail::destroy<HostPool>;
        functions.submit = submit_to_host;
        functions.pending = [](void *context) noexcept {
            return static_cast<HostPool *>(context)->pending();
        };
        functions.thread_count = [](void *context) noexcept {
            return static_cast<HostPool *>(context)->thread_count();
        };
        return detail::make<octopus_thread_pool>(api, api.thread_pool->from_host, &functions);
    }

    detail::Handle<octopus_thread_pool> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_THREAD_POOL_HPP */
