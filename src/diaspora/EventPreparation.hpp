/* The preparation of an event, which the core calls before it sends the event: validates it,
 * serializes its metadata and selects its partition. */

#ifndef OCTOPUS_DIASPORA_EVENT_PREPARATION_HPP
#define OCTOPUS_DIASPORA_EVENT_PREPARATION_HPP

#include "Components.hpp"
#include "Core.hpp"

#include <cstdint>
#include <exception>
#include <memory>

namespace octopus::adapter {

class EventPreparation final : public Preparation {
public:
    /* The exception of a component is stored in `thrown` before the event's future fails. One that
     * is there already fails the event instead of its preparation. */
    EventPreparation(std::shared_ptr<const Components> components,
                     diaspora::PartitionSelector selector, std::uint32_t record_format,
                     diaspora::Metadata metadata, std::shared_ptr<std::exception_ptr> thrown)
        : components_(std::move(components)), selector_(std::move(selector)),
          record_format_(record_format), metadata_(std::move(metadata)), thrown_(std::move(thrown))
    {
    }

    void prepare(const std::vector<std::string_view> &data, const Output &metadata) override;
    std::uint32_t select(std::optional<std::uint64_t> requested, std::uint32_t partitions) override;

private:
    std::shared_ptr<const Components> components_;
    diaspora::PartitionSelector selector_;
    std::uint32_t record_format_; /* one of OCTOPUS_RECORD_… */
    diaspora::Metadata metadata_;
    std::shared_ptr<std::exception_ptr> thrown_;
};

} // namespace octopus::adapter

#endif
