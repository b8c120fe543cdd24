#include "Components.hpp"

#include <diaspora/Exception.hpp>

namespace octopus::adapter {

namespace {

std::vector<diaspora::PartitionInfo> partition_infos(std::uint32_t count)
{
    std::vector<diaspora::PartitionInfo> partitions;
    partitions.reserve(count);
    for (std::uint32_t number = 0; number < count; number++)
        partitions.emplace_back(nlohmann::json{{"partition_id", number}});
    return partitions;
}

/* Creates the described component. An exception of its factory becomes one that names the topic and
 * the component. */
template <class Component>
Component create_component(const std::string &topic_name, const char *kind,
                           const nlohmann::json &description)
{
    std::string why;
    try {
        return Component::FromMetadata(diaspora::Metadata{description});
    } catch (const std::exception &exception) {
        why = exception.what();
    } catch (...) {
        why = "an exception that is not a std::exception";
    }
    throw diaspora::Exception("opening topic \"" + topic_name + "\": its " + kind + " " +
                              description.dump() + " can't be created: " + why);
}

} // namespace

Components::Components(std::string topic_name, std::string_view json, std::uint32_t partition_count)
    : topic_name_(std::move(topic_name)), json_(nlohmann::json::parse(json)),
      partitions_(partition_infos(partition_count)),
      validator_(
          create_component<diaspora::Validator>(topic_name_, "validator", json_["validator"])),
      serializer_(
          create_component<diaspora::Serializer>(topic_name_, "serializer", json_["serializer"])),
      selector_(make_selector()), has_default_serializer_(is_default("serializer")),
      are_default_(has_default_serializer_ && is_default("validator") && is_default("selector"))
{
}

bool Components::is_default(const char *kind) const
{
    return json_[kind].value("type", "") == "default";
}

diaspora::PartitionSelector Components::make_selector() const
{
    auto selector = create_component<diaspora::PartitionSelector>(topic_name_, "partition selector",
                                                                  json_["selector"]);
    selector.setPartitions(partitions_);
    return selector;
}

} // namespace octopus::adapter
