/* A topic's validator, partition selector and serializer: objects of the Diaspora library, or of a
 * library that it loads. */

#ifndef OCTOPUS_DIASPORA_COMPONENTS_HPP
#define OCTOPUS_DIASPORA_COMPONENTS_HPP

#include <diaspora/PartitionSelector.hpp>
#include <diaspora/Serializer.hpp>
#include <diaspora/Validator.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octopus::adapter {

class Components {
public:
    /* Creates the components that `json` describes: {"validator":…,"selector":…,"serializer":…}.
     * Throws a diaspora::Exception that names the topic and the component if one can't be
     * created. */
    Components(std::string topic_name, std::string_view json, std::uint32_t partition_count);

    const diaspora::Validator &validator() const { return validator_; }
    const diaspora::PartitionSelector &selector() const { return selector_; }
    const diaspora::Serializer &serializer() const { return serializer_; }
    const std::vector<diaspora::PartitionInfo> &partitions() const { return partitions_; }

    /* Whether all components are the defaults. The core has equivalents of these: they validate
     * nothing, write the size of the metadata's text and then the text, and select the partitions
     * round robin. */
    bool are_default() const { return are_default_; }
    bool has_default_serializer() const { return has_default_serializer_; }

    /* Creates a selector for one producer. Producers don't share one, since a selector may have
     * state. */
    diaspora::PartitionSelector make_selector() const;

private:
    bool is_default(const char *kind) const;

    std::string topic_name_;
    nlohmann::json json_;
    std::vector<diaspora::PartitionInfo> partitions_;
    diaspora::Validator validator_;
    diaspora::Serializer serializer_;
    diaspora::PartitionSelector selector_;
    bool has_default_serializer_;
    bool are_default_;
};

} // namespace octopus::adapter

#endif
