/* What the core asks of an event before it sends it: whether it may be pushed, its metadata's bytes, its partition. */

#ifndef OCTOPUS_DIASPORA_EVENT_PREPARATION_HPP
#define OCTOPUS_DIASPORA_EVENT_PREPARATION_HPP

#include "Components.hpp"
#include "Core.hpp"

#include <exception>
#include <memory>

namespace octopus::adapter {

class EventPreparation final : public Preparation {
public:
    /* What a component throws goes to `thrown` as it is, before the event's future ends. */
    EventPreparation(std::shared_ptr<const Components> components, diaspora::PartitionSelector selector,
                     diaspora::Metadata metadata, std::shared_ptr<std::exception_ptr> thrown)
        : components_(std::move(components)), selector_(std::move(selector)), metadata_(std::move(metadata)),
          thrown_(std::move(thrown))
    {
    }

    void prepare(const std::vector<std::string_view> &data, const Output &metadata) override;
    std::uint32_t select(std::optional<std::uint64_t> requested, std::uint32_t partitions) override;

private:
    std::shared_ptr<const Components> components_;
    diaspora::PartitionSelector selector_;
    diaspora::Metadata metadata_;
    std::shared_ptr<std::exception_ptr> thrown_;
};

} // namespace octopus::adapter

#endif
