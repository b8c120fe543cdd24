#include "EventLoader.hpp"

#include "Event.hpp"
#include "Selection.hpp"

#include <diaspora/BufferWrapperArchive.hpp>

namespace octopus::adapter {

diaspora::Event EventLoader::load(octopus::Event event, diaspora::DataView &kept) const
{
    if (event.is_end_of_topic())
        return {std::make_shared<Event>(std::move(event), diaspora::Metadata{}, diaspora::DataView{})};
    auto metadata = metadata_of(event);
    diaspora::DataDescriptor descriptor;
    if (selector_)
        descriptor = selector_(metadata, diaspora::DataDescriptor{"", event.data().size()});
    if (allocator_) {
        const auto pieces = selected(descriptor, event.data().size());
        kept = allocator_(metadata, descriptor);
        copy(event.data(), pieces, kept);
    }
    return {std::make_shared<Event>(std::move(event), std::move(metadata), std::move(kept))};
}

diaspora::Metadata EventLoader::metadata_of(const octopus::Event &event) const
{
    diaspora::Metadata metadata;
    diaspora::BufferWrapperInputArchive archive(event.serialized_metadata());
    serializer_.deserialize(archive, metadata);
    return metadata;
}

} // namespace octopus::adapter
