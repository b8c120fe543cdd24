/* Consumers: pulling, processing, positions. A part of octopus.hpp. */

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

/* What a processor wants next. */
enum class Flow : std::int32_t { go_on = OCTOPUS_PROCESS_CONTINUE, stop = OCTOPUS_PROCESS_STOP };

/* Called with each event, which may be moved from, and with NULL when none came in time. */
using Processor = std::function<Flow(Event *event)>;

/* How events are processed. */
struct Processing {
    /* How long to wait for an event before the processor is called with NULL. */
    milliseconds timeout = forever;
    /* Events to process. */
    std::uint64_t max_events = UINT64_MAX;
    /* Where the processor runs, several at a time; none, or one without threads: in the caller. */
    const ThreadPool *pool = nullptr;
};

/* Reads the events of one topic. Destroying it commits what was acknowledged and leaves the group, in the background. */
class Consumer {
public:
    /* A ticket for the next event. */
    Pull pull() const
    {
        return Pull(detail::make<octopus_future>(handle_.api(), handle_.api().consumer->pull, handle_.get()));
    }

    /* The next event: a pull and its wait. */
    std::optional<Event> next(milliseconds at_most = forever) const { return pull().wait(at_most); }

    /* Waits for a first event, then takes what else is there, at most `most` in all. Empty when the time passed. */
    std::vector<Event> pull_many(std::uint64_t most, milliseconds at_most = forever) const
    {
        std::vector<octopus_event *> taken(static_cast<std::size_t>(most), nullptr);
        std::uint64_t count = 0;
        std::vector<Event> events;
        events.reserve(taken.size());
        const octopus_api &api = handle_.api();
        const octopus_status status = detail::outcome(api, api.consumer->pull_many, handle_.get(), most, at_most.count(),
                                                      taken.data(), &count);
        std::vector<detail::Handle<octopus_event>> owned;
        owned.reserve(taken.size());
        for (std::uint64_t index = 0; index < count; index++)
            owned.emplace_back(api, taken[index]);
        for (auto &handle : owned)
            events.push_back(Event(std::move(handle)));
        if (events.empty() && status != OCTOPUS_OK && status != OCTOPUS_TIMED_OUT && status != OCTOPUS_END_OF_TOPIC)
            Error::raise(api, status, nullptr);
        return events;
    }

    /* Feeds events to `processor` until it says stop, or was given `max_events`. What it throws, on whichever thread, ends
     * processing and is thrown here. What was taken and not processed is pulled next. */
    void process(Processor processor, const Processing &how = {}) const
    {
        struct Context {
            const octopus_api &api;
            Processor processor;
            std::atomic<bool> has_failed{false};
            std::exception_ptr failure;
        };
        /* The plugin may keep its copy for a moment longer than the call; the failure is read after it. */
        auto shared = std::shared_ptr<Context>(new Context{handle_.api(), std::move(processor), {}, nullptr});
        octopus_processor callback{};
        callback.context = detail::give_away(std::make_unique<std::shared_ptr<Context>>(shared));
        callback.destroy = detail::destroy<std::shared_ptr<Context>>;
        callback.function = [](void *given, octopus_event *lent) noexcept -> std::int32_t {
            Context &context = **static_cast<std::shared_ptr<Context> *>(given);
            try {
                if (!lent)
                    return static_cast<std::int32_t>(context.processor(nullptr));
                context.api.event->retain(lent);
                Event event(detail::Handle<octopus_event>(context.api, lent));
                return static_cast<std::int32_t>(context.processor(&event));
            } catch (...) {
                if (!context.has_failed.exchange(true))
                    context.failure = std::current_exception();
                return OCTOPUS_CALLBACK_FAILED;
            }
        };
        try {
            detail::call(handle_.api(), handle_.api().consumer->process, handle_.get(),
                         static_cast<const octopus_processor *>(&callback), how.timeout.count(), how.max_events,
                         static_cast<const octopus_thread_pool *>(how.pool ? how.pool->handle_.get() : nullptr));
        } catch (const Error &error) {
            if (error.status() == OCTOPUS_CALLBACK_FAILED && shared->failure)
                std::rethrow_exception(shared->failure);
            throw;
        }
    }

    /* Commits what was acknowledged before; false when Kafka has not answered in time. Not needed for safety. */
    bool commit(milliseconds at_most = as_configured) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().consumer->commit, handle_.get(), at_most.count());
    }

    /* The offset of the event that comes next in this partition. */
    std::uint64_t position(std::uint32_t partition) const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().consumer->position, handle_.get(), partition);
    }

    /* Where a consumer of this name would start; nothing: at the earliest record. */
    std::optional<std::uint64_t> committed(std::uint32_t partition) const
    {
        const auto offset =
            detail::get<std::uint64_t>(handle_.api(), handle_.api().consumer->committed, handle_.get(), partition);
        return offset == OCTOPUS_OFFSET_NONE ? std::nullopt : std::optional<std::uint64_t>(offset);
    }

    /* Events of this partition that were not delivered to this consumer yet. */
    std::uint64_t lag(std::uint32_t partition) const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().consumer->lag, handle_.get(), partition);
    }

    /* Goes on at this offset of the partition. */
    void seek(std::uint32_t partition, std::uint64_t offset) const
    {
        detail::call(handle_.api(), handle_.api().consumer->seek, handle_.get(), partition, offset);
    }

    /* The partitions that are this consumer's now, in order. */
    std::vector<std::uint32_t> assignment() const
    {
        std::vector<std::uint32_t> partitions(16);
        for (;;) {
            std::uint64_t count = 0;
            detail::call(handle_.api(), handle_.api().consumer->assignment, handle_.get(), partitions.data(),
                         static_cast<std::uint64_t>(partitions.size()), &count);
            const bool fits = count <= partitions.size();
            partitions.resize(static_cast<std::size_t>(count));
            if (fits)
                return partitions;
        }
    }

    /* Commits, leaves the group, gives target partitions up: from then on pulls throw with OCTOPUS_CLOSED. */
    void unsubscribe() const { detail::call(handle_.api(), handle_.api().consumer->unsubscribe, handle_.get()); }

    /* Commits what was acknowledged and leaves the group; false when the time passed: it goes on in the background. */
    bool close(milliseconds at_most = forever) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().consumer->close, handle_.get(), at_most.count());
    }

private:
    friend class Topic;
    explicit Consumer(detail::Handle<octopus_consumer> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_consumer> handle_;
};

/* How a consumer is to be made. */
struct ConsumerOptions {
    /* JSON; its `kafka` object is laid over the driver's. */
    std::string_view options = {};
    /* Events in a batch: 0, no preference; OCTOPUS_BATCH_SIZE_ADAPTIVE. And how many batches may be held. */
    std::uint64_t batch_size = 0;
    std::uint64_t max_batches = 0;
    /* Partitions to read, and no others; none: those that the group gives. */
    std::vector<std::uint32_t> targets = {};
};

} // namespace octopus

#endif /* OCTOPUS_CONSUMER_HPP */
