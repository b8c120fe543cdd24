/* Makes events of the API out of the core's: metadata by the topic's serializer, data by the consumer's selector and
 * allocator. */

#ifndef OCTOPUS_DIASPORA_EVENT_LOADER_HPP
#define OCTOPUS_DIASPORA_EVENT_LOADER_HPP

#include "Components.hpp"
#include "Core.hpp"

#include <diaspora/DataAllocator.hpp>
#include <diaspora/DataSelector.hpp>
#include <diaspora/Event.hpp>

#include <memory>

namespace octopus::adapter {

class EventLoader {
public:
    EventLoader(std::shared_ptr<const Components> components, diaspora::DataAllocator allocator,
                diaspora::DataSelector selector)
        : components_(std::move(components)), allocator_(std::move(allocator)), selector_(std::move(selector))
    {
    }

    const diaspora::DataAllocator &allocator() const { return allocator_; }
    const diaspora::DataSelector &selector() const { return selector_; }

    /* Calls serializer, selector and allocator in this thread; what they throw comes out. `kept` holds the allocator's memory
     * then: a binding may need a lock to free it which this thread doesn't have. */
    diaspora::Event load(octopus::Event event, diaspora::DataView &kept) const;

private:
    diaspora::Metadata metadata_of(const octopus::Event &event) const;

    std::shared_ptr<const Components> components_;
    diaspora::DataAllocator allocator_;
    diaspora::DataSelector selector_;
};

} // namespace octopus::adapter

#endif
