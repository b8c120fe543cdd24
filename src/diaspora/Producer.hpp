/* Pushes events whose validator, serializer and selector are objects of C++. Order, room, delivery are the core's. */

#ifndef OCTOPUS_DIASPORA_PRODUCER_HPP
#define OCTOPUS_DIASPORA_PRODUCER_HPP

#include "Components.hpp"
#include "Core.hpp"

#include <diaspora/Producer.hpp>
#include <diaspora/ThreadPool.hpp>

#include <memory>
#include <string>

namespace octopus::adapter {

class TopicHandle;

/* What a producer was made with, to be told again. */
struct ProducerSettings {
    std::string name;
    diaspora::BatchSize batch_size;
    diaspora::MaxNumBatches max_batches;
    diaspora::Ordering ordering;
    std::shared_ptr<diaspora::ThreadPoolInterface> pool;
    /* Kept, so that whoever uses the same pool meanwhile gets the same. */
    std::shared_ptr<const octopus::ThreadPool> pool_in_core;
};

class Producer final : public diaspora::ProducerInterface {
public:
    Producer(octopus::Producer in_core, ProducerSettings settings, std::shared_ptr<const Components> components,
             std::shared_ptr<TopicHandle> topic);

    const std::string &name() const override { return settings_.name; }
    diaspora::BatchSize batchSize() const override { return settings_.batch_size; }
    diaspora::MaxNumBatches maxNumBatches() const override { return settings_.max_batches; }
    diaspora::Ordering ordering() const override { return settings_.ordering; }
    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override { return settings_.pool; }
    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override;

    /* The data is copied, and `data` not kept, before this returns. Throws when the event could not be queued at all; what
     * fails later, the components included, is thrown by the future. */
    diaspora::Future<std::optional<diaspora::EventID>> push(diaspora::Metadata metadata, diaspora::DataView data,
                                                            std::optional<std::size_t> partition) override;

    diaspora::Future<std::optional<diaspora::Flushed>> flush() override;

private:
    /* Where the components are the defaults there is nothing to prepare. Nothing if the event is not to be pushed so: what is
     * wrong with it is then found where other events' faults are. */
    std::optional<octopus::Push> push_plain(const diaspora::Metadata &metadata, const diaspora::DataView &data,
                                            std::optional<std::size_t> partition) const;

    octopus::Producer in_core_;
    ProducerSettings settings_;
    std::shared_ptr<const Components> components_;
    diaspora::PartitionSelector selector_;
    std::shared_ptr<TopicHandle> topic_;
};

} // namespace octopus::adapter

#endif
