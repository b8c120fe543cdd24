#include "Json.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

namespace octopus::adapter {

namespace {

using nlohmann::json;

template <char... characters> bool is_one_of(char character)
{
    return ((character == characters) || ...);
}

/* Whether a character needs no escape in a JSON string. */
bool is_plain(char character)
{
    return character >= 0x20 && character < 0x7f && character != '"' && character != '\\';
}

json parse(const char *begin, const char *end)
{
    constexpr bool throws = false;
    return json::parse(begin, end, nullptr, throws);
}

void write_string(const std::string &string, std::string &text)
{
    if (!std::all_of(string.begin(), string.end(), is_plain)) {
        text += json(string).dump();
        return;
    }
    text += '"';
    text += string;
    text += '"';
}

template <class Integer> void write_integer(Integer integer, std::string &text)
{
    char digits[24]; /* enough for 64 bits and a sign */
    text.append(digits, std::to_chars(digits, digits + sizeof(digits), integer).ptr);
}

void write_object(const json::object_t &members, std::string &text)
{
    text += '{';
    bool is_first = true;
    for (const auto &[name, value] : members) {
        if (!std::exchange(is_first, false))
            text += ',';
        write_string(name, text);
        text += ':';
        write_json(value, text);
    }
    text += '}';
}

void write_array(const json::array_t &values, std::string &text)
{
    text += '[';
    bool is_first = true;
    for (const auto &value : values) {
        if (!std::exchange(is_first, false))
            text += ',';
        write_json(value, text);
    }
    text += ']';
}

/* Parses the common subset of JSON: ASCII without escapes and limited nesting. Each function skips
 * the whitespace after its part, and returns false for anything outside of the subset, valid or
 * not. */
class Reader {
public:
    explicit Reader(std::string_view text) : next_(text.data()), end_(next_ + text.size()) {}

    bool read_all(json &value)
    {
        skip_space();
        return read(value, 0) && next_ == end_;
    }

private:
    /* Limits the recursion, since each level uses stack. */
    static constexpr int max_depth = 32;
    /* Any number of 18 digits fits in 64 bits. */
    static constexpr std::size_t max_digits = 18;

    bool read(json &value, int depth)
    {
        if (next_ == end_ || depth > max_depth)
            return false;
        switch (*next_) {
        case '{':
            value = json::object();
            return read_object(value.get_ref<json::object_t &>(), depth + 1);
        case '[':
            value = json::array();
            return read_array(value.get_ref<json::array_t &>(), depth + 1);
        case '"':
            value = std::string();
            return read_string(value.get_ref<std::string &>());
        case 't':
            value = true;
            return take_word("true");
        case 'f':
            value = false;
            return take_word("false");
        case 'n':
            return take_word("null");
        default:
            return read_number(value);
        }
    }

    bool read_object(json::object_t &members, int depth)
    {
        take('{');
        if (take('}'))
            return true;
        do {
            std::string name;
            /* The hint is the end, since names are usually sorted. A duplicate name replaces the
             * earlier value. */
            if (!read_string(name) || !take(':') ||
                !read(members.insert_or_assign(members.end(), std::move(name), nullptr)->second,
                      depth))
                return false;
        } while (take(','));
        return take('}');
    }

    bool read_array(json::array_t &values, int depth)
    {
        take('[');
        if (take(']'))
            return true;
        do {
            if (!read(values.emplace_back(), depth))
                return false;
        } while (take(','));
        return take(']');
    }

    bool read_string(std::string &string)
    {
        if (next_ == end_ || *next_ != '"')
            return false;
        const char *const begin = next_ + 1;
        const char *const end = std::find_if_not(begin, end_, is_plain);
        if (end == end_ || *end != '"')
            return false;
        string.assign(begin, end);
        next_ = end + 1;
        skip_space();
        return true;
    }

    bool read_number(json &value)
    {
        const char *const begin = next_;
        next_ = std::find_if_not(begin, end_, [](char it) {
            return (it >= '0' && it <= '9') || is_one_of<'+', '-', '.', 'e', 'E'>(it);
        });
        if (!read_integer({begin, static_cast<std::size_t>(next_ - begin)}, value)) {
            value = parse(begin, next_);
            if (value.is_discarded())
                return false;
        }
        skip_space();
        return true;
    }

    static bool read_integer(std::string_view text, json &value)
    {
        const bool is_negative = !text.empty() && text.front() == '-';
        const auto digits = text.substr(is_negative);
        if (digits.empty() || digits.size() > max_digits ||
            (digits.front() == '0' && digits.size() > 1))
            return false;
        std::int64_t integer = 0;
        for (const char digit : digits) {
            if (digit < '0' || digit > '9')
                return false;
            integer = integer * 10 + (digit - '0');
        }
        if (is_negative)
            value = -integer;
        else
            value = static_cast<std::uint64_t>(integer);
        return true;
    }

    bool take(char expected)
    {
        if (next_ == end_ || *next_ != expected)
            return false;
        next_++;
        skip_space();
        return true;
    }

    bool take_word(std::string_view expected)
    {
        if (std::string_view(next_, static_cast<std::size_t>(end_ - next_))
                .substr(0, expected.size()) != expected)
            return false;
        next_ += expected.size();
        skip_space();
        return true;
    }

    void skip_space()
    {
        while (next_ != end_ && is_one_of<' ', '\t', '\n', '\r'>(*next_))
            next_++;
    }

    const char *next_;
    const char *end_;
};

} // namespace

void write_json(const json &value, std::string &text)
{
    switch (value.type()) {
    case json::value_t::object:
        return write_object(value.get_ref<const json::object_t &>(), text);
    case json::value_t::array:
        return write_array(value.get_ref<const json::array_t &>(), text);
    case json::value_t::string:
        return write_string(value.get_ref<const std::string &>(), text);
    case json::value_t::boolean:
        text += value.get<bool>() ? "true" : "false";
        return;
    case json::value_t::number_integer:
        return write_integer(value.get_ref<const std::int64_t &>(), text);
    case json::value_t::number_unsigned:
        return write_integer(value.get_ref<const std::uint64_t &>(), text);
    default:
        text += value.dump();
    }
}

json read_json(std::string_view text)
{
    json value;
    if (Reader(text).read_all(value))
        return value;
    return parse(text.data(), text.data() + text.size());
}

} // namespace octopus::adapter
