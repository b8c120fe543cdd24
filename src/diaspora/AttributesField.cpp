#include "AttributesField.hpp"

#include "Bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace octopus::adapter {

namespace {

using nlohmann::json;

constexpr char option_name[] = "attributes_field";
constexpr char key_member[] = "key", headers_member[] = "headers", timestamp_member[] = "timestamp";
constexpr char name_member[] = "name", value_member[] = "value";

std::string kind_of(const json &value)
{
    if (value.is_null())
        return "null";
    return (value.is_structured() ? "an " : "a ") + std::string(value.type_name());
}

/* A value in the field of a pushed event, with its path for errors. A member that is null counts as
 * missing. */
class Member {
public:
    Member(std::string path, const json &value) : path_(std::move(path)), value_(value) {}

    /* Rejects another value than an object with some of these members. */
    void check_members(std::initializer_list<std::string_view> known) const
    {
        if (!value_.is_object())
            reject("expected an object, got " + kind_of(value_));
        for (const auto &[name, value] : value_.items())
            if (std::find(known.begin(), known.end(), name) == known.end())
                member(name, value).reject("no such member");
    }

    std::optional<Member> find(const char *name) const
    {
        const auto found = value_.find(name);
        if (found == value_.end() || found->is_null())
            return std::nullopt;
        return member(name, *found);
    }

    std::vector<Member> elements() const
    {
        if (!value_.is_array())
            reject("expected an array, got " + kind_of(value_));
        std::vector<Member> elements;
        for (const json &element : value_)
            elements.emplace_back(path_ + "[" + std::to_string(elements.size()) + "]", element);
        return elements;
    }

    std::string bytes() const
    {
        auto bytes = json_to_bytes(value_);
        if (!bytes)
            reject(R"(expected a string or {"base64": "…"} with padding, got )" + kind_of(value_));
        return *std::move(bytes);
    }

    milliseconds timestamp() const
    {
        /* A number above the range becomes negative. */
        const auto timestamp = value_.is_number_integer() ? value_.get<std::int64_t>() : 0;
        if (timestamp < 1)
            reject("expected a whole number above 0, of milliseconds since 1970, got " +
                   (value_.is_number() ? value_.dump() : kind_of(value_)));
        return milliseconds(timestamp);
    }

    RecordAttributes::NamedValue header() const
    {
        check_members({name_member, value_member});
        const auto name = value_.value(name_member, json());
        const auto *text = name.get_ptr<const std::string *>();
        if (!text || text->empty() || text->find('\0') != std::string::npos)
            member(name_member, name)
                .reject("expected a string that is not empty and has no NUL, got " + kind_of(name));
        const auto value = find(value_member);
        return {*text, value ? std::optional(value->bytes()) : std::nullopt};
    }

private:
    Member member(std::string_view name, const json &value) const
    {
        return {path_ + "." + std::string(name), value};
    }

    [[noreturn]] void reject(const std::string &reason) const
    {
        throw diaspora::Exception("pushing an event: metadata field " + path_ + ": " + reason);
    }

    std::string path_;
    const json &value_;
};

json attributes_of(const octopus::Event &event)
{
    auto attributes = json::object();
    if (const auto key = event.key())
        attributes[key_member] = bytes_to_json(*key);
    for (const Header &header : event.headers()) {
        json named = {{name_member, header.name}};
        if (header.value)
            named[value_member] = bytes_to_json(*header.value);
        attributes[headers_member].push_back(std::move(named));
    }
    if (event.timestamp() >= milliseconds::zero()) /* negative: the record has none */
        attributes[timestamp_member] = event.timestamp().count();
    return attributes;
}

} // namespace

std::optional<AttributesField> AttributesField::take_option(json &driver_options)
{
    const auto option = driver_options.find(option_name);
    if (option == driver_options.end())
        return std::nullopt;
    const auto rejection = [](const std::string &reason) {
        return diaspora::Exception("configuration: " + std::string(option_name) + ": " + reason);
    };
    if (!option->is_string())
        throw rejection("expected a string, got " + kind_of(*option));
    auto name = option->get<std::string>();
    if (name.empty())
        throw rejection("is empty; expected the name of a metadata field");
    driver_options.erase(option);
    return AttributesField(std::move(name));
}

void AttributesField::add_to(json &metadata, const octopus::Event &event) const
{
    if (metadata.is_null())
        metadata = json::object();
    if (!metadata.is_object())
        return;
    if (metadata.contains(name_))
        throw diaspora::Exception("reading event " + std::to_string(event.id()) + " of partition " +
                                  std::to_string(event.partition()) +
                                  ": its metadata already has a field \"" + name_ +
                                  "\"; set the driver's option \"" + option_name +
                                  "\" to a name that metadata does not have");
    metadata[name_] = with_api_exceptions([&] { return attributes_of(event); });
}

RecordAttributes AttributesField::take_from(json &metadata) const
{
    const auto found = metadata.find(name_);
    if (found == metadata.end())
        return {};
    const json value = std::move(*found);
    metadata.erase(found);
    const Member field(name_, value);
    field.check_members({key_member, headers_member, timestamp_member});
    RecordAttributes attributes;
    if (const auto key = field.find(key_member))
        attributes.key = key->bytes();
    if (const auto headers = field.find(headers_member))
        for (const Member &element : headers->elements())
            attributes.headers.push_back(element.header());
    if (const auto timestamp = field.find(timestamp_member))
        attributes.timestamp = timestamp->timestamp();
    return attributes;
}

} // namespace octopus::adapter
