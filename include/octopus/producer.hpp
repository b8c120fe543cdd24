/// @file
/// Producers, and the events that they push. Part of octopus.hpp.

#ifndef OCTOPUS_PRODUCER_HPP
#define OCTOPUS_PRODUCER_HPP

#include "consumer.hpp"
#include "detail.hpp"
#include "event.hpp"
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

/// An event to push. Its members are views: the texts must live until the call of `push`, which
/// copies them.
///
/// @since 0.1
struct NewEvent {
    /// The metadata: JSON in UTF-8, or bytes that the host serialized. Ignored if there is a
    /// preparation.
    std::string_view metadata = "{}";
    /// The data, or its first segment. If it is not set, the event has no data. With the producer's
    /// option `"records": "bytes"`, its record has no value then (a tombstone).
    std::string_view data = {};
    /// The requested partition. The topic's selector decides.
    std::optional<std::uint64_t> partition = {};
    /// Whether `metadata` goes into the record unchanged.
    bool metadata_is_serialized = false;
    /// Further segments of the data, which are appended in order.
    std::vector<std::string_view> segments = {};
    /// How long `push` may wait while the in-flight limit is reached; zero: not at all, none: the
    /// driver's `timeout_ms`. At its end, `push` throws an Error with OCTOPUS_TIMED_OUT.
    std::optional<milliseconds> timeout = {};
    /// The record's key. With the producer's option `partitioner` it requests a partition.
    std::optional<std::string_view> key = {};
    /// The record's headers.
    std::vector<Header> headers = {};
    /// The record's timestamp, since 1970-01-01 UTC; none: the time of the push.
    std::optional<milliseconds> timestamp = {};
};

/// Pushes events into one topic.
///
/// After its destruction without `close`, events in flight are delivered in the background. When
/// the process exits, it waits for them at most the driver's `exit_flush_ms`.
///
/// @since 0.1
class Producer {
public:
    /// Queues an event. Blocks only while the in-flight limit is reached, at most the driver's
    /// `timeout_ms`, or the event's `timeout`.
    ///
    /// @param event The event.
    /// @return The future of its delivery.
    /// @throws Error if the event is not queued, for example with OCTOPUS_TOO_LARGE,
    /// OCTOPUS_INVALID_METADATA, OCTOPUS_COMPONENT, OCTOPUS_UNREACHABLE, OCTOPUS_CLOSED, or
    /// OCTOPUS_WOULD_BLOCK on a plugin thread.
    Push push(const NewEvent &event) const { return push(arguments(event), event); }

    /// Queues an event that the host validates and serializes.
    ///
    /// @param event The event; its metadata is ignored.
    /// @param preparation The preparation.
    /// @return The future of its delivery, which also reports a failure of the preparation.
    /// @throws Error as the other overload.
    Push push(const NewEvent &event, std::unique_ptr<Preparation> preparation) const
    {
        auto args = arguments(event);
        args.metadata = octopus_bytes{nullptr, 0};
        const octopus_preparation functions = Preparation::functions(std::move(preparation));
        args.preparation = &functions;
        return push(args, event);
    }

    /// Queues events in order, until one is rejected.
    ///
    /// @param events The events.
    /// @param rejection Receives the exception of the rejected event, or NULL.
    /// @return The futures of the events that were queued.
    std::vector<Push> push_many(const std::vector<NewEvent> &events,
                                std::exception_ptr &rejection) const
    {
        std::vector<octopus_push_args> args;
        std::vector<std::vector<octopus_bytes>> segments;
        std::vector<Attributes> attributes;
        args.reserve(events.size());
        segments.reserve(events.size());
        attributes.reserve(events.size());
        for (const NewEvent &event : events) {
            segments.push_back(all_segments(event));
            attributes.emplace_back(event);
            args.push_back(arguments(event));
            args.back().segments = segments.back().data();
            args.back().segment_count = segments.back().size();
            args.back().attributes = attributes.back().get();
        }
        std::vector<octopus_future *> made(events.size(), nullptr);
        std::uint64_t pushed = 0;
        try {
            rejection = nullptr;
            detail::call(handle_.api(), handle_.api().producer->push_many, handle_.get(),
                         static_cast<const octopus_push_args *>(args.data()),
                         static_cast<std::uint64_t>(args.size()), made.data(), &pushed);
        } catch (const Error &) {
            rejection = std::current_exception();
        }
        std::vector<Push> pushes;
        pushes.reserve(events.size());
        for (std::uint64_t index = 0; index < pushed; index++)
            pushes.push_back(Push(detail::Handle<octopus_future>(handle_.api(), made[index])));
        return pushes;
    }

    /// Starts a flush: sends the events that linger now. Does not block.
    ///
    /// @return The future of the flush.
    /// @throws Error with OCTOPUS_CLOSED.
    Flush flush() const
    {
        return Flush(detail::make<octopus_future>(handle_.api(), handle_.api().producer->flush,
                                                  handle_.get()));
    }

    /// @return The size of the largest event that `push` accepts: metadata and data together, in
    /// bytes.
    std::uint64_t max_event_size() const
    {
        return detail::get<std::uint64_t>(handle_.api(), handle_.api().producer->max_event_size,
                                          handle_.get());
    }

    /// @return The format of the records: one of OCTOPUS_RECORD_…, by the option `records`.
    std::uint32_t record_format() const
    {
        return detail::get<std::uint32_t>(handle_.api(), handle_.api().producer->record_format,
                                          handle_.get());
    }

    /// Begins a transaction of a producer with the option `transactional_id`. It contains the
    /// events that are pushed from now on, and the positions that are acknowledged in `consumers`:
    /// all are stored, or none.
    ///
    /// @param consumers The consumers, which have the option `"commits": "transaction"`. They may
    /// be destroyed at any time.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT if a transaction is open or a consumer does not
    /// fit; with OCTOPUS_FENCED, OCTOPUS_KAFKA, OCTOPUS_CLOSED.
    void begin_transaction(const std::vector<const Consumer *> &consumers = {}) const
    {
        std::vector<const octopus_consumer *> handles;
        handles.reserve(consumers.size());
        for (const Consumer *consumer : consumers)
            handles.push_back(consumer->handle_.get());
        detail::call(handle_.api(), handle_.api().producer->begin_transaction, handle_.get(),
                     static_cast<const octopus_consumer *const *>(handles.data()),
                     static_cast<std::uint64_t>(handles.size()));
    }

    /// Waits until the events of the transaction are delivered, and stores them and the positions.
    ///
    /// @param timeout The longest time to wait; the driver's `timeout_ms` is a limit, too.
    /// @return Whether it is committed; else repeat the call, which continues.
    /// @throws Error with OCTOPUS_MUST_ABORT if the transaction can only be aborted; with
    /// OCTOPUS_UNREACHABLE, after which the repeated call continues; with OCTOPUS_FENCED,
    /// OCTOPUS_KAFKA, OCTOPUS_CLOSED, or OCTOPUS_WOULD_DEADLOCK on a plugin thread.
    [[nodiscard]] bool commit_transaction(milliseconds timeout = forever) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().producer->commit_transaction,
                                    handle_.get(), timeout.count());
    }

    /// Discards the events of the transaction. Its consumers continue at their last committed
    /// positions.
    ///
    /// @param timeout As of `commit_transaction`.
    /// @return Whether it is aborted; else repeat the call, which continues.
    /// @throws Error as `commit_transaction`, except with OCTOPUS_MUST_ABORT.
    [[nodiscard]] bool abort_transaction(milliseconds timeout = forever) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().producer->abort_transaction,
                                    handle_.get(), timeout.count());
    }

    /// Rejects further pushes, and waits until no event is in flight. An open transaction is ended
    /// first; if that fails, the producer stays open.
    ///
    /// @param timeout The longest time to wait.
    /// @return Whether no event is in flight; else they are still being delivered.
    /// @throws Error as Flush::wait if events failed; with OCTOPUS_CLOSED if it was closed before;
    /// with OCTOPUS_WOULD_DEADLOCK on a plugin thread, and in a task of the producer's pool.
    [[nodiscard]] bool close(milliseconds timeout) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().producer->close, handle_.get(),
                                    timeout.count());
    }

    /// As the other overload, without a limit.
    ///
    /// @throws Error as the other overload.
    void close() const
    {
        detail::call(handle_.api(), handle_.api().producer->close, handle_.get(), forever.count());
    }

private:
    friend class Topic;
    explicit Producer(detail::Handle<octopus_producer> handle) : handle_(std::move(handle)) {}

    /// The attributes of an event as the ABI takes them.
    class Attributes {
    public:
        explicit Attributes(const NewEvent &event)
            : is_needed_(event.key || !event.headers.empty() || event.timestamp)
        {
            if (!is_needed_)
                return;
            for (const Header &header : event.headers)
                headers_.push_back(
                    {detail::text(header.name), detail::optional_bytes(header.value)});
            args_.key = detail::optional_bytes(event.key);
            args_.headers = headers_.data();
            args_.header_count = headers_.size();
            args_.timestamp_ms = event.timestamp.value_or(milliseconds::zero()).count();
            args_.has_timestamp = event.timestamp.has_value();
        }

        /// Valid until `this` is moved or destroyed.
        const octopus_push_attributes *get() const { return is_needed_ ? &args_ : nullptr; }

    private:
        bool is_needed_;
        std::vector<octopus_header> headers_;
        octopus_push_attributes args_ = detail::sized<octopus_push_attributes>();
    };

    static octopus_push_args arguments(const NewEvent &event)
    {
        auto args = detail::sized<octopus_push_args>();
        args.metadata = detail::bytes(event.metadata);
        args.metadata_is_serialized = event.metadata_is_serialized;
        args.partition = event.partition.value_or(0);
        args.has_partition = event.partition.has_value();
        args.timeout_ms = event.timeout.value_or(milliseconds::zero()).count();
        args.has_timeout = event.timeout.has_value();
        return args;
    }

    static std::vector<octopus_bytes> all_segments(const NewEvent &event)
    {
        std::vector<octopus_bytes> all;
        all.reserve(event.segments.size() + 1);
        if (event.data.data() != nullptr)
            all.push_back(detail::bytes(event.data));
        for (const std::string_view segment : event.segments)
            all.push_back(detail::bytes(segment));
        return all;
    }

    Push push(octopus_push_args args, const NewEvent &event) const
    {
        const octopus_bytes data = detail::bytes(event.data);
        const Attributes attributes(event);
        std::vector<octopus_bytes> all;
        args.attributes = attributes.get();
        args.segments = &data;
        args.segment_count = event.data.data() == nullptr ? 0 : 1;
        if (!event.segments.empty()) {
            all = all_segments(event);
            args.segments = all.data();
            args.segment_count = all.size();
        }
        return Push(detail::make<octopus_future>(handle_.api(), handle_.api().producer->push,
                                                 handle_.get(),
                                                 static_cast<const octopus_push_args *>(&args)));
    }

    detail::Handle<octopus_producer> handle_;
};

/// Options of a producer.
///
/// @since 0.1
struct ProducerOptions {
    /// The name that log messages and statistics show.
    std::string_view name = {};
    /// A JSON object; its `kafka` object overrides properties of the driver. See
    /// docs/reference/configuration.md. A view: the text must live until the call.
    std::string_view options = {};
    /// The number of events in a batch; 0 for no preference, or OCTOPUS_BATCH_SIZE_ADAPTIVE.
    std::uint64_t batch_size = 0;
    /// The number of batches that may be in flight; 0 for no preference.
    std::uint64_t max_batches = 0;
    /// Whether threads of the pool may reorder the events of this producer.
    bool is_loose = false;
    /// The pool that validates and serializes events; none: `push` does it.
    const ThreadPool *pool = nullptr;
};

} // namespace octopus

#endif /* OCTOPUS_PRODUCER_HPP */
