/* A JSON writer and parser with the behavior of the nlohmann library. A fast path handles typical
 * metadata: ASCII without escapes, integers, and limited nesting. Everything else is passed to that
 * library. */

#ifndef OCTOPUS_DIASPORA_JSON_HPP
#define OCTOPUS_DIASPORA_JSON_HPP

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace octopus::adapter {

/* Appends the result of `value.dump()`. Throws what that throws; `text` then has a part of the
 * result. */
void write_json(const nlohmann::json &value, std::string &text);

/* Returns the result of `nlohmann::json::parse(text)`, or a discarded value where that throws. */
nlohmann::json read_json(std::string_view text);

} // namespace octopus::adapter

#endif
