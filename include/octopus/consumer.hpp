/// @file
/// Consumers: pulling, processing, positions. Part of octopus.hpp.

#ifndef OCTOPUS_CONSUMER_HPP
#define OCTOPUS_CONSUMER_HPP

#include "detail.hpp"
#include "event.hpp"
#include "future.hpp"
#include "thread_pool.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

/// The result of a processor.
///
/// @since 0.1
enum class Flow : std::int32_t {
    /// Continue with the next event.
    go_on = OCTOPUS_PROCESS_CONTINUE,
    /// Stop: Consumer::process returns.
    stop = OCTOPUS_PROCESS_STOP
};

/// Processes an event.
///
/// Its argument is the event, which may be moved from, or NULL if no event came within the timeout.
///
/// @since 0.1
using Processor = std::function<Flow(Event *event)>;

/// Options of Consumer::process.
///
/// @since 0.1
struct Processing {
    /// The time without an event after which the processor is called with NULL.
    milliseconds timeout = forever;
    /// The number of events to process at most.
    std::uint64_t max_events = UINT64_MAX;
    /// The pool that runs the processor, several calls at the same time. Without one, and with a
    /// pool without threads, the thread that called `process` runs it.
    const ThreadPool *pool = nullptr;
};

/// Reads the events of one topic.
///
/// Destroying it without `close` commits and leaves the group in the background. If the process
/// ends before that, the last acknowledgements are not committed, and Kafka keeps its place for
/// `session.timeout.ms` (45 s): call `close` before `main` returns.
///
/// @since 0.1
class Consumer {
public:
    /// Starts a pull of the next event. Does not block.
    ///
    /// @return The pending pull.
    /// @throws Error with OCTOPUS_CLOSED.
    Pull pull() const
    {
        return Pull(detail::make<octopus_future>(handle_.api(), handle_.api().consumer->pull,
                                                 handle_.get()));
    }

    /// Waits for the next event: `pull` and Pull::wait.
    ///
    /// @param timeout The longest time to wait.
    /// @return The event; none after the timeout.
    /// @throws Error as Pull::wait.
    [[nodiscard]] std::optional<Event> next(milliseconds timeout = forever) const
    {
        return pull().wait(timeout);
    }

    /// Waits for an event, and reads further events that are available without waiting.
    ///
    /// @param max_events The number of events to read at most.
    /// @param timeout The longest time to wait for the first event.
    /// @return The events; empty after the timeout.
    /// @throws Error as Pull::wait, unless events were read: then the next call throws it.
    std::vector<Event> pull_many(std::uint64_t max_events, milliseconds timeout = forever) const
    {
        std::vector<octopus_event *> taken(static_cast<std::size_t>(max_events), nullptr);
        std::uint64_t count = 0;
        std::vector<Event> events;
        events.reserve(taken.size());
        const octopus_api &api = handle_.api();
        const octopus_status status = detail::outcome(api, api.consumer->pull_many, handle_.get(),
                                                      max_events, timeout.count(), taken.data(),
                                                      &count);
        std::vector<detail::Handle<octopus_event>> owned;
        owned.reserve(taken.size());
        for (std::uint64_t index = 0; index < count; index++)
            owned.emplace_back(api, taken[index]);
        for (auto &handle : owned)
            events.push_back(Event(std::move(handle)));
        if (events.empty() && status != OCTOPUS_OK && status != OCTOPUS_TIMED_OUT &&
            status != OCTOPUS_END_OF_TOPIC)
            Error::raise(api, status, nullptr);
        return events;
    }

    /// Passes events to a processor until it returns Flow::stop or `max_events` events were passed.
    /// Blocks until then.
    ///
    /// Events that were read but not processed are read by the next pull.
    ///
    /// @param processor The processor. An exception, on any thread, ends the processing and is
    /// thrown here.
    /// @param options The options.
    /// @throws Error as Pull::wait; with OCTOPUS_WOULD_DEADLOCK on a plugin thread, and in a task
    /// of the pool.
    void process(Processor processor, const Processing &options = {}) const
    {
        struct Context {
            const octopus_api &api;
            Processor processor;
            std::atomic<bool> has_failed{false};
            std::exception_ptr failure;
        };
        /* Shared, since the plugin may destroy its copy after the call has returned, and the
         * failure is read after the call. */
        auto shared = std::shared_ptr<Context>(
            new Context{handle_.api(), std::move(processor), {}, nullptr});
        octopus_processor callback{};
        callback.context = detail::into_context(std::make_unique<std::shared_ptr<Context>>(shared));
        callback.destroy = detail::destroy<std::shared_ptr<Context>>;
        callback.function = [](void *pointer, octopus_event *borrowed) noexcept -> std::int32_t {
            Context &context = **static_cast<std::shared_ptr<Context> *>(pointer);
            try {
                if (!borrowed)
                    return static_cast<std::int32_t>(context.processor(nullptr));
                context.api.event->retain(borrowed);
                Event event(detail::Handle<octopus_event>(context.api, borrowed));
                return static_cast<std::int32_t>(context.processor(&event));
            } catch (...) {
                if (!context.has_failed.exchange(true))
                    context.failure = std::current_exception();
                return OCTOPUS_CALLBACK_FAILED;
            }
        };
        try {
            detail::call(handle_.api(), handle_.api().consumer->process, handle_.get(),
                         static_cast<const octopus_processor *>(&callback), options.timeout.count(),
                         options.max_events,
                         static_cast<const octopus_thread_pool *>(
                             options.pool ? options.pool->handle_.get() : nullptr));
        } catch (const Error &error) {
            if (error.status() == OCTOPUS_CALLBACK_FAILED && shared->failure)
                std::rethrow_exception(shared->failure);
            throw;
        }
    }

    /// Commits the events that were acknowledged before the call. Optional: the plugin commits
    /// every second, and at the end.
    ///
    /// @param timeout The longest time to wait; the driver's `timeout_ms` is always an upper bound.
    /// @return Whether Kafka responded in time; else the plugin retries.
    /// @throws Error if this or an earlier commit failed; with OCTOPUS_WOULD_DEADLOCK on a plugin
    /// thread.
    [[nodiscard]] bool commit(milliseconds timeout = as_configured) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().consumer->commit, handle_.get(),
                                    timeout.count());
    }

    /// @param partition A partition that is assigned to this consumer.
    /// @return The offset of the event that is read next.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT if the partition is not assigned; with
    /// OCTOPUS_WOULD_DEADLOCK on a plugin thread.
    std::uint64_t position(std::uint32_t partition) const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().consumer->position,
                                          handle_.get(), partition);
    }

    /// @param partition A partition of the topic.
    /// @return The committed offset, where a new consumer of this name starts; none if nothing is
    /// committed.
    /// @throws Error with OCTOPUS_WOULD_DEADLOCK on a plugin thread.
    std::optional<std::uint64_t> committed(std::uint32_t partition) const
    {
        const auto offset = detail::get<std::uint64_t>(
            handle_.api(), handle_.api().consumer->committed, handle_.get(), partition);
        return offset == OCTOPUS_OFFSET_NONE ? std::nullopt : std::optional<std::uint64_t>(offset);
    }

    /// @param partition A partition that is assigned to this consumer.
    /// @return The number of offsets from the position to the end of the partition.
    /// @throws Error as `position`.
    std::uint64_t lag(std::uint32_t partition) const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().consumer->lag, handle_.get(),
                                          partition);
    }

    /// Sets the position. The committed offset does not change.
    ///
    /// @param partition A partition that is assigned to this consumer.
    /// @param offset The offset to read next.
    /// @throws Error as `position`; with OCTOPUS_INVALID_ARGUMENT also if the partition has no such
    /// offset.
    void seek(std::uint32_t partition, std::uint64_t offset) const
    {
        detail::call(handle_.api(), handle_.api().consumer->seek, handle_.get(), partition, offset);
    }

    /// @return The partitions that are assigned to this consumer, in ascending order. Does not
    /// block.
    std::vector<std::uint32_t> assignment() const
    {
        std::vector<std::uint32_t> partitions(16);
        for (;;) {
            std::uint64_t count = 0;
            detail::call(handle_.api(), handle_.api().consumer->assignment, handle_.get(),
                         partitions.data(), static_cast<std::uint64_t>(partitions.size()), &count);
            const bool fits = count <= partitions.size();
            partitions.resize(static_cast<std::size_t>(count));
            if (fits)
                return partitions;
        }
    }

    /// Commits, leaves the group, and gives up all partitions. From then on, pulls throw Error with
    /// OCTOPUS_CLOSED. Blocks at most the driver's `timeout_ms`.
    ///
    /// @throws Error if the commit failed; with OCTOPUS_WOULD_DEADLOCK on a plugin thread.
    void unsubscribe() const
    {
        detail::call(handle_.api(), handle_.api().consumer->unsubscribe, handle_.get());
    }

    /// Commits and leaves the group.
    ///
    /// @param timeout The longest time to wait.
    /// @return Whether that is done; else it continues in the background.
    /// @throws Error if a commit failed; with OCTOPUS_CLOSED if it was closed before; with
    /// OCTOPUS_WOULD_DEADLOCK on a plugin thread.
    [[nodiscard]] bool close(milliseconds timeout) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().consumer->close, handle_.get(),
                                    timeout.count());
    }

    /// As the other overload, without a limit.
    ///
    /// @throws Error as the other overload.
    void close() const
    {
        detail::call(handle_.api(), handle_.api().consumer->close, handle_.get(), forever.count());
    }

private:
    friend class Producer;
    friend class Topic;
    explicit Consumer(detail::Handle<octopus_consumer> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_consumer> handle_;
};

/// Options of a consumer.
///
/// @since 0.1
struct ConsumerOptions {
    /// A JSON object; its `kafka` object overrides properties of the driver. See
    /// docs/reference/configuration.md. A view: the text must live until the call.
    std::string_view options = {};
    /// The number of events in a batch; 0 for no preference, or OCTOPUS_BATCH_SIZE_ADAPTIVE.
    std::uint64_t batch_size = 0;
    /// The number of batches to prefetch; 0 for no preference.
    std::uint64_t max_batches = 0;
    /// The partitions to read; empty: those that the consumer group assigns.
    std::vector<std::uint32_t> targets = {};
};

} // namespace octopus

#endif /* OCTOPUS_CONSUMER_HPP */
