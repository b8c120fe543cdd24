/* The metadata field that has the attributes of an event's record: its key, headers and timestamp.
 * The option `attributes_field` of a driver names it. */

#ifndef OCTOPUS_DIASPORA_ATTRIBUTES_FIELD_HPP
#define OCTOPUS_DIASPORA_ATTRIBUTES_FIELD_HPP

#include "Core.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace octopus::adapter {

/* The attributes that an event is pushed with. */
struct RecordAttributes {
    struct NamedValue {
        std::string name;
        std::optional<std::string> value;
    };

    std::optional<std::string> key = {};
    std::vector<NamedValue> headers = {};
    std::optional<milliseconds> timestamp = {};

    /* Adds views of these attributes to the event. Inline, since each push calls it. */
    void add_to(NewEvent &event) const
    {
        event.key = key;
        for (const auto &[name, value] : headers)
            event.headers.push_back(Header{name, value});
        event.timestamp = timestamp;
    }
};

class AttributesField {
public:
    /* Removes the option from those of a driver, since the core does not know it. Returns nothing
     * if it is missing. Throws diaspora::Exception if it is not a name. */
    static std::optional<AttributesField> take_option(nlohmann::json &driver_options);

    /* Adds the field, with the attributes of the event's record, to the event's metadata. Metadata
     * that is null becomes an object; any other value that is not an object stays unchanged. Throws
     * diaspora::Exception if the metadata already has the field. */
    void add_to(nlohmann::json &metadata, const octopus::Event &event) const;

    /* Removes the field from the metadata of an event that is pushed. Throws diaspora::Exception,
     * which names the member, if the field has another form than `add_to` gives it. */
    RecordAttributes take_from(nlohmann::json &metadata) const;

private:
    explicit AttributesField(std::string name) : name_(std::move(name)) {}

    std::string name_;
};

} // namespace octopus::adapter

#endif
