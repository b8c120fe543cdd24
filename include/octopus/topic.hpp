/// @file
/// Open topics, which create producers and consumers. Part of octopus.hpp.

#ifndef OCTOPUS_TOPIC_HPP
#define OCTOPUS_TOPIC_HPP

#include "consumer.hpp"
#include "detail.hpp"
#include "producer.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

namespace octopus {

/// An open topic.
///
/// @since 0.1
class Topic {
public:
    /// @return The name that the topic was opened with.
    std::string_view name() const
    {
        return detail::view(
            detail::get<octopus_text>(handle_.api(), handle_.api().topic->name, handle_.get()));
    }

    /// @return The number of partitions that the topic had when it was opened.
    std::uint32_t partition_count() const
    {
        return detail::get<std::uint32_t>(handle_.api(), handle_.api().topic->partition_count,
                                          handle_.get());
    }

    /// @return `{"validator":…,"selector":…,"serializer":…}`, with the JSON objects that were
    /// passed when the topic was created.
    std::string_view components() const
    {
        return detail::view(detail::get<octopus_text>(
            handle_.api(), handle_.api().topic->components, handle_.get()));
    }

    /// Creates a producer. Producers of one driver with the same properties share a Kafka client,
    /// unless the option `client` is `"dedicated"`. If that client knows the topic already, it asks
    /// a broker for its metadata, for at most a second.
    ///
    /// @param options The options.
    /// @return The producer.
    /// @throws Error for example with OCTOPUS_INVALID_CONFIGURATION or OCTOPUS_UNSUPPORTED.
    Producer producer(const ProducerOptions &options = {}) const
    {
        auto args = detail::sized<octopus_producer_args>();
        args.name = detail::text(options.name);
        args.options = detail::text(options.options);
        args.batch_size = options.batch_size;
        args.max_batches = options.max_batches;
        args.ordering = options.is_loose ? OCTOPUS_ORDERING_LOOSE : OCTOPUS_ORDERING_STRICT;
        args.thread_pool = options.pool ? options.pool->handle_.get() : nullptr;
        return Producer(detail::make<octopus_producer>(
            handle_.api(), handle_.api().topic->make_producer, handle_.get(),
            static_cast<const octopus_producer_args *>(&args)));
    }

    /// Creates a consumer with its own Kafka client and plugin thread. It joins its group in the
    /// background.
    ///
    /// @param name The name of the consumer, which is the name of its consumer group: consumers
    /// with the same name share the partitions, and continue at the offset that the name committed.
    /// @param options The options.
    /// @return The consumer.
    /// @throws Error for example with OCTOPUS_INVALID_ARGUMENT, OCTOPUS_INVALID_CONFIGURATION or
    /// OCTOPUS_UNSUPPORTED.
    Consumer consumer(std::string_view name, const ConsumerOptions &options = {}) const
    {
        auto args = detail::sized<octopus_consumer_args>();
        args.name = detail::text(name);
        args.options = detail::text(options.options);
        args.batch_size = options.batch_size;
        args.max_batches = options.max_batches;
        args.targets = options.targets.data();
        args.target_count = options.targets.size();
        return Consumer(detail::make<octopus_consumer>(
            handle_.api(), handle_.api().topic->make_consumer, handle_.get(),
            static_cast<const octopus_consumer_args *>(&args)));
    }

private:
    friend class Driver;
    explicit Topic(detail::Handle<octopus_topic> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_topic> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_TOPIC_HPP */
