/* Producers, and the events that they push. A part of octopus.hpp. */

#ifndef OCTOPUS_PRODUCER_HPP
#define OCTOPUS_PRODUCER_HPP

#include "detail.hpp"
#include "future.hpp"
#include "preparation.hpp"
#include "thread_pool.hpp"

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

/* An event to be pushed; what it points to is copied by the push. */
struct NewEvent {
    /* JSON in UTF-8, or bytes that a serializer of yours made of it; empty with a preparation. */
    std::string_view metadata = "{}";
    /* The data in one piece, followed by what `segments` has. */
    std::string_view data = {};
    /* The partition asked for; the topic's selector decides. */
    std::optional<std::uint64_t> partition = {};
    /* Whether `metadata` goes into the record as it is. */
    bool metadata_is_serialized = false;
    /* More data, in order. */
    std::vector<std::string_view> segments = {};
};

/* Pushes events into one topic. Destroyed without `close` it still delivers what it holds, in the background. When the
 * process exits it waits for that, at most for the driver's `exit_flush_ms`. */
class Producer {
public:
    /* Queues an event and returns at once; waits only while no room is left, at most the driver's `timeout_ms`. */
    Push push(const NewEvent &event) const { return push(arguments(event), event); }

    /* As above, for an event that `own` makes ready. */
    Push push(const NewEvent &event, std::unique_ptr<Preparation> own) const
    {
        auto args = arguments(event);
        args.metadata = octopus_bytes{nullptr, 0};
        const octopus_preparation preparation = Preparation::functions(std::move(own));
        args.preparation = &preparation;
        return push(args, event);
    }

    /* Queues events in order, up to the first that is refused; why, if one was, goes to `refusal`. */
    std::vector<Push> push_many(const std::vector<NewEvent> &events, std::exception_ptr &refusal) const
    {
        std::vector<octopus_push_args> args;
        std::vector<std::vector<octopus_bytes>> segments;
        args.reserve(events.size());
        segments.reserve(events.size());
        for (const NewEvent &event : events) {
            segments.push_back(all_segments(event));
            args.push_back(arguments(event));
            args.back().segments = segments.back().data();
            args.back().segment_count = segments.back().size();
        }
        std::vector<octopus_future *> made(events.size(), nullptr);
        std::uint64_t pushed = 0;
        try {
            refusal = nullptr;
            detail::call(handle_.api(), handle_.api().producer->push_many, handle_.get(),
                         static_cast<const octopus_push_args *>(args.data()),
                         static_cast<std::uint64_t>(args.size()), made.data(), &pushed);
        } catch (const Error &) {
            refusal = std::current_exception();
        }
        std::vector<Push> pushes;
        pushes.reserve(events.size());
        for (std::uint64_t index = 0; index < pushed; index++)
            pushes.push_back(Push(detail::Handle<octopus_future>(handle_.api(), made[index])));
        return pushes;
    }

    /* Sends what lingers, now, waited on or not. */
    Flush flush() const
    {
        return Flush(detail::make<octopus_future>(handle_.api(), handle_.api().producer->flush, handle_.get()));
    }

    /* The largest event that push takes: bytes of metadata and data together. */
    std::uint64_t max_event_size() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().producer->max_event_size, handle_.get());
    }

    /* Takes no more events and waits until those in flight are delivered or have failed, which throws as a flush does.
     * False when the time passed: they are still being delivered. */
    bool close(milliseconds at_most = forever) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().producer->close, handle_.get(), at_most.count());
    }

private:
    friend class Topic;
    explicit Producer(detail::Handle<octopus_producer> handle) : handle_(std::move(handle)) {}

    static octopus_push_args arguments(const NewEvent &event)
    {
        auto args = detail::sized<octopus_push_args>();
        args.metadata = detail::bytes(event.metadata);
        args.metadata_is_serialized = event.metadata_is_serialized;
        args.partition = event.partition.value_or(0);
        args.has_partition = event.partition.has_value();
        return args;
    }

    static std::vector<octopus_bytes> all_segments(const NewEvent &event)
    {
        std::vector<octopus_bytes> all;
        all.reserve(event.segments.size() + 1);
        if (!event.data.empty())
            all.push_back(detail::bytes(event.data));
        for (const std::string_view segment : event.segments)
            all.push_back(detail::bytes(segment));
        return all;
    }

    Push push(octopus_push_args args, const NewEvent &event) const
    {
        const octopus_bytes data = detail::bytes(event.data);
        std::vector<octopus_bytes> all;
        args.segments = &data;
        args.segment_count = event.data.empty() ? 0 : 1;
        if (!event.segments.empty()) {
            all = all_segments(event);
            args.segments = all.data();
            args.segment_count = all.size();
        }
        return Push(detail::make<octopus_future>(handle_.api(), handle_.api().producer->push, handle_.get(),
                                                 static_cast<const octopus_push_args *>(&args)));
    }

    detail::Handle<octopus_producer> handle_;
};

/* How a producer is to be made. */
struct ProducerOptions {
    /* Shown in messages and statistics. */
    std::string_view name = {};
    /* JSON; its `kafka` object is laid over the driver's. */
    std::string_view options = {};
    /* Events in a batch: 0, no preference; OCTOPUS_BATCH_SIZE_ADAPTIVE. And how many batches may be held. */
    std::uint64_t batch_size = 0;
    std::uint64_t max_batches = 0;
    /* Whether events of this producer may be reordered by the pool that prepares them. */
    bool is_loose = false;
    /* Where events are prepared; none: in the calls to push. */
    const ThreadPool *pool = nullptr;
};

} // namespace octopus

#endif /* OCTOPUS_PRODUCER_HPP */
