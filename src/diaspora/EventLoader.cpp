#include "EventLoader.hpp"

#include "Event.hpp"
#include "Json.hpp"
#include "Selection.hpp"

#include <diaspora/BufferWrapperArchive.hpp>

#include <cstdint>
#include <cstring>

namespace octopus::adapter {

namespace {

/* Parses the output of the default serializer without a copy. Returns a discarded value for
 * anything else. */
nlohmann::json parse_default(std::string_view bytes)
{
    std::uint64_t size = 0;
    if (bytes.size() < sizeof(size))
        return nlohmann::json::value_t::discarded;
    std::memcpy(&size, bytes.data(), sizeof(size));
    const auto text = bytes.substr(sizeof(size));
    if (text.size() != size)
        return nlohmann::json::value_t::discarded;
    return read_json(text);
}

} // namespace

diaspora::Event EventLoader::load(octopus::Event event, diaspora::DataView &data) const
{
    if (event.is_end_of_topic())
        return {
            std::make_shared<Event>(std::move(event), diaspora::Metadata{}, diaspora::DataView{})};
    auto metadata = metadata_of(event);
    if (attributes_field_)
        attributes_field_->add_to(metadata.json(), event);
    diaspora::DataDescriptor descriptor;
    if (selector_)
        descriptor = selector_(metadata, diaspora::DataDescriptor{"", event.data().size()});
    if (allocator_) {
        const auto pieces = selected(descriptor, event.data().size());
        data = allocator_(metadata, descriptor);
        copy(event.data(), pieces, data);
    }
    return {std::make_shared<Event>(std::move(event), std::move(metadata), std::move(data))};
}

diaspora::Metadata EventLoader::metadata_of(const octopus::Event &event) const
{
    const auto bytes = event.serialized_metadata();
    if (event.record_format() != OCTOPUS_RECORD_DIASPORA)
        return {read_json(event.metadata().value_or("null"))};
    if (components_->has_default_serializer()) {
        auto json = parse_default(bytes);
        if (!json.is_discarded())
            return {std::move(json)};
    }
    /* An empty object, which is the default of the API; its default constructor would parse
     * "{}". */
    diaspora::Metadata metadata(nlohmann::json::object());
    diaspora::BufferWrapperInputArchive archive(bytes);
    components_->serializer().deserialize(archive, metadata);
    return metadata;
}

} // namespace octopus::adapter
