#include "Bytes.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace octopus::adapter {

namespace {

constexpr char base64_member[] = "base64";
constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr char padding = '=';

std::uint32_t code_of(char byte) { return static_cast<unsigned char>(byte); }

/* Returns the size of the character at the beginning of `text`, or 0 if that is not one in UTF-8
 * (RFC 3629). */
std::size_t size_of_character(std::string_view text)
{
    const std::uint32_t first = code_of(text[0]);
    if (first < 0x80)
        return 1;
    const std::size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first < 0xc0 || first >= 0xf8 || text.size() < size)
        return 0;
    std::uint32_t code = first & (0x7fU >> size);
    for (const char byte : text.substr(1, size - 1)) {
        if ((code_of(byte) & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (code_of(byte) & 0x3f);
    }
    constexpr std::uint32_t min_codes[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
    return code >= min_codes[size] && code <= 0x10ffff && !is_surrogate ? size : 0;
}

bool is_utf8(std::string_view text)
{
    while (!text.empty()) {
        const std::size_t size = size_of_character(text);
        if (size == 0)
            return false;
        text.remove_prefix(size);
    }
    return true;
}

std::string base64_of(std::string_view bytes)
{
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 3))) {
        std::uint32_t group = 0;
        for (std::size_t index = 0; index < 3; index++)
            group = group << 8 | (index < bytes.size() ? code_of(bytes[index]) : 0);
        for (std::size_t index = 0; index < 4; index++)
            text += index <= bytes.size() ? alphabet[group >> (18 - 6 * index) & 0x3f] : padding;
    }
    return text;
}

std::optional<std::string> from_base64(std::string_view text)
{
    if (text.size() % 4 != 0)
        return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    for (; !text.empty(); text.remove_prefix(4)) {
        const bool is_last = text.size() == 4;
        const std::size_t padded = !is_last || text[3] != padding ? 0 : text[2] == padding ? 2 : 1;
        std::uint32_t group = 0;
        for (std::size_t index = 0; index < 4; index++) {
            const std::size_t digit = index < 4 - padded ? alphabet.find(text[index]) : 0;
            if (digit == std::string_view::npos)
                return std::nullopt;
            group = group << 6 | static_cast<std::uint32_t>(digit);
        }
        /* Bits of the last digit that belong to no byte are 0, so each value has one form. */
        if ((group & ((1U << 8 * padded) - 1)) != 0)
            return std::nullopt;
        for (std::size_t index = 0; index < 3 - padded; index++)
            bytes += static_cast<char>(group >> (16 - 8 * index) & 0xff);
    }
    return bytes;
}

} // namespace

nlohmann::json bytes_to_json(std::string_view bytes)
{
    if (is_utf8(bytes))
        return std::string(bytes);
    return {{base64_member, base64_of(bytes)}};
}

std::optional<std::string> json_to_bytes(const nlohmann::json &value)
{
    if (value.is_string())
        return value.get_ref<const std::string &>();
    const bool has_one_member = value.is_object() && value.size() == 1;
    const auto base64 = has_one_member ? value.find(base64_member) : value.end();
    if (base64 == value.end() || !base64->is_string())
        return std::nullopt;
    return from_base64(base64->get_ref<const std::string &>());
}

} // namespace octopus::adapter
