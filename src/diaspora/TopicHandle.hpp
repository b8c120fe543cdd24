/* An open topic with its components, which are C++ objects. */

#ifndef OCTOPUS_DIASPORA_TOPIC_HANDLE_HPP
#define OCTOPUS_DIASPORA_TOPIC_HANDLE_HPP

#include "AttributesField.hpp"
#include "Components.hpp"
#include "Core.hpp"

#include <diaspora/Driver.hpp>

#include <memory>
#include <optional>
#include <string>

namespace octopus::adapter {

class TopicHandle final : public diaspora::TopicHandleInterface,
                          public std::enable_shared_from_this<TopicHandle> {
public:
    TopicHandle(octopus::Topic in_core, std::shared_ptr<diaspora::DriverInterface> driver,
                std::optional<AttributesField> attributes_field);

    const std::string &name() const override { return name_; }
    std::shared_ptr<diaspora::DriverInterface> driver() const override { return driver_; }
    const std::vector<diaspora::PartitionInfo> &partitions() const override
    {
        return components_->partitions();
    }
    diaspora::Validator validator() const override { return components_->validator(); }
    diaspora::PartitionSelector selector() const override { return components_->selector(); }
    diaspora::Serializer serializer() const override { return components_->serializer(); }

    std::shared_ptr<diaspora::ProducerInterface>
    makeProducer(std::string_view name, diaspora::BatchSize batch_size,
                 diaspora::MaxNumBatches max_batches, diaspora::Ordering ordering,
                 std::shared_ptr<diaspora::ThreadPoolInterface> pool,
                 diaspora::Metadata options) override;

    std::shared_ptr<diaspora::ConsumerInterface>
    makeConsumer(std::string_view name, diaspora::BatchSize batch_size,
                 diaspora::MaxNumBatches max_batches,
                 std::shared_ptr<diaspora::ThreadPoolInterface> pool,
                 diaspora::DataAllocator allocator, diaspora::DataSelector selector,
                 const std::vector<std::size_t> &targets, diaspora::Metadata options) override;

private:
    octopus::Topic in_core_;
    std::string name_;
    std::shared_ptr<diaspora::DriverInterface> driver_;
    std::shared_ptr<const Components> components_;
    std::optional<AttributesField> attributes_field_;
};

} // namespace octopus::adapter

#endif
