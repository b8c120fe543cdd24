/* A producer of the Diaspora API: its events are validated, serialized and assigned to partitions
 * by C++ components. The core implements ordering, the in-flight limit and delivery. */

#ifndef OCTOPUS_DIASPORA_PRODUCER_HPP
#define OCTOPUS_DIASPORA_PRODUCER_HPP

#include "AttributesField.hpp"
#include "Components.hpp"
#include "Core.hpp"

#include <diaspora/Producer.hpp>
#include <diaspora/ThreadPool.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace octopus::adapter {

class TopicHandle;

/* The arguments that a producer was created with, which its getters return. */
struct ProducerSettings {
    std::string name;
    diaspora::BatchSize batch_size;
    diaspora::MaxNumBatches max_batches;
    diaspora::Ordering ordering;
    std::shared_ptr<diaspora::ThreadPoolInterface> pool;
    /* Holds the core's pool, so that other users of `pool` share it: `for_the_core` keeps weak
     * references only. */
    std::shared_ptr<const octopus::ThreadPool> pool_in_core;
};

class Producer final : public diaspora::ProducerInterface {
public:
    Producer(octopus::Producer in_core, ProducerSettings settings,
             std::shared_ptr<const Components> components,
             std::optional<AttributesField> attributes_field, std::shared_ptr<TopicHandle> topic);

    const std::string &name() const override { return settings_.name; }
    diaspora::BatchSize batchSize() const override { return settings_.batch_size; }
    diaspora::MaxNumBatches maxNumBatches() const override { return settings_.max_batches; }
    diaspora::Ordering ordering() const override { return settings_.ordering; }
    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override
    {
        return settings_.pool;
    }
    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override;

    /* Copies the data and releases `data` before it returns. Throws if the event can't be queued.
     * The future throws later failures, including exceptions of the components. */
    diaspora::Future<std::optional<diaspora::EventID>>
    push(diaspora::Metadata metadata, diaspora::DataView data,
         std::optional<std::size_t> partition) override;

    diaspora::Future<std::optional<diaspora::Flushed>> flush() override;

private:
    /* Pushes without an EventPreparation, for which all components must be the defaults. Returns
     * nothing if the event is wrong; `push` then takes the general path, which reports what is
     * wrong. */
    std::optional<octopus::Push> push_default(const diaspora::Metadata &metadata,
                                              NewEvent event) const;

    octopus::Producer in_core_;
    std::uint32_t record_format_; /* one of OCTOPUS_RECORD_… */
    ProducerSettings settings_;
    std::shared_ptr<const Components> components_;
    diaspora::PartitionSelector selector_;
    std::optional<AttributesField> attributes_field_;
    std::shared_ptr<TopicHandle> topic_;
};

} // namespace octopus::adapter

#endif
