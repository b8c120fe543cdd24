/* Bytes as JSON values: text in UTF-8 is a string, other bytes are {"base64": "…"}. */

#ifndef OCTOPUS_DIASPORA_BYTES_HPP
#define OCTOPUS_DIASPORA_BYTES_HPP

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace octopus::adapter {

nlohmann::json bytes_to_json(std::string_view bytes);

/* Returns nothing if the value has another form, or its base64 (RFC 4648) is invalid or lacks its
 * padding. */
std::optional<std::string> json_to_bytes(const nlohmann::json &value);

} // namespace octopus::adapter

#endif
