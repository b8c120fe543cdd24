/* Converts events of the core to events of the API: the topic's serializer deserializes the
 * metadata, the consumer's selector and allocator load the data. */

#ifndef OCTOPUS_DIASPORA_EVENT_LOADER_HPP
#define OCTOPUS_DIASPORA_EVENT_LOADER_HPP

#include "AttributesField.hpp"
#include "Components.hpp"
#include "Core.hpp"

#include <diaspora/DataAllocator.hpp>
#include <diaspora/DataSelector.hpp>
#include <diaspora/Event.hpp>

#include <memory>
#include <optional>

namespace octopus::adapter {

class EventLoader {
public:
    EventLoader(std::shared_ptr<const Components> components,
                std::optional<AttributesField> attributes_field, diaspora::DataAllocator allocator,
                diaspora::DataSelector selector)
        : components_(std::move(components)), attributes_field_(std::move(attributes_field)),
          allocator_(std::move(allocator)), selector_(std::move(selector))
    {
    }

    const diaspora::DataAllocator &allocator() const { return allocator_; }
    const diaspora::DataSelector &selector() const { return selector_; }

    /* Calls serializer, selector and allocator on this thread and passes on what they throw. In
     * that case `data` holds the allocator's memory, so that the caller chooses where to free it:
     * the Python binding needs the GIL for that. */
    diaspora::Event load(octopus::Event event, diaspora::DataView &data) const;

private:
    diaspora::Metadata metadata_of(const octopus::Event &event) const;

    std::shared_ptr<const Components> components_;
    std::optional<AttributesField> attributes_field_;
    diaspora::DataAllocator allocator_;
    diaspora::DataSelector selector_;
};

} // namespace octopus::adapter

#endif
