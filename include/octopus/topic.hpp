/* Opened topics, which make producers and consumers. A part of octopus.hpp. */

#ifndef OCTOPUS_TOPIC_HPP
#define OCTOPUS_TOPIC_HPP

#include "consumer.hpp"
#include "detail.hpp"
#include "producer.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

namespace octopus {

/* An opened topic. */
class Topic {
public:
    /* The name that it was opened by. */
    std::string_view name() const
    {
        return detail::view(detail::get<octopus_text>(handle_.api(), handle_.api().topic->name, handle_.get()));
    }

    /* The number of partitions when it was opened. */
    std::uint32_t partition_count() const
    {
        return detail::get<std::uint32_t>(handle_.api(), handle_.api().topic->partition_count, handle_.get());
    }

    /* {"validator":…,"selector":…,"serializer":…}, each as it was given when the topic was made. */
    std::string_view components() const
    {
        return detail::view(detail::get<octopus_text>(handle_.api(), handle_.api().topic->components, handle_.get()));
    }

    /* A producer with a Kafka client and a thread of its own. */
    Producer producer(const ProducerOptions &how = {}) const
    {
        auto args = detail::sized<octopus_producer_args>();
        args.name = detail::text(how.name);
        args.options = detail::text(how.options);
        args.batch_size = how.batch_size;
        args.max_batches = how.max_batches;
        args.ordering = how.is_loose ? OCTOPUS_ORDERING_LOOSE : OCTOPUS_ORDERING_STRICT;
        args.thread_pool = how.pool ? how.pool->handle_.get() : nullptr;
        return Producer(detail::make<octopus_producer>(handle_.api(), handle_.api().topic->make_producer,
                                                       handle_.get(),
                                                       static_cast<const octopus_producer_args *>(&args)));
    }

    /* A consumer with a Kafka client and a thread of its own. Its name is its group: consumers of one name share the
     * partitions, and go on where that name left off. */
    Consumer consumer(std::string_view name, const ConsumerOptions &how = {}) const
    {
        auto args = detail::sized<octopus_consumer_args>();
        args.name = detail::text(name);
        args.options = detail::text(how.options);
        args.batch_size = how.batch_size;
        args.max_batches = how.max_batches;
        args.targets = how.targets.data();
        args.target_count = how.targets.size();
        return Consumer(detail::make<octopus_consumer>(handle_.api(), handle_.api().topic->make_consumer,
                                                       handle_.get(),
                                                       static_cast<const octopus_consumer_args *>(&args)));
    }

private:
    friend class Driver;
    explicit Topic(detail::Handle<octopus_topic> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_topic> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_TOPIC_HPP */
