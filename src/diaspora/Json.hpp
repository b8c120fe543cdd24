/* JSON as nlohmann's library writes and reads it, in less time for what metadata mostly is: ASCII without escapes, integers, and not
 * deep. Whatever else there is, that library writes and reads. */

#ifndef OCTOPUS_DIASPORA_JSON_HPP
#define OCTOPUS_DIASPORA_JSON_HPP

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace octopus::adapter {

/* Appends what `value.dump()` returns, and throws what it throws; then `text` has a part of it. */
void write_json(const nlohmann::json &value, std::string &text);

/* What `nlohmann::json::parse(text)` returns; discarded where that throws. */
nlohmann::json read_json(std::string_view text);

} // namespace octopus::adapter

#endif
