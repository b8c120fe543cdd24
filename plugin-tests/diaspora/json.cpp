/*
 * The adapter's own reading and writing of JSON (src/diaspora/Json.cpp) does what nlohmann's library does, with whatever it gets.
 *
 *     ./json
 */

#include "../hosts/promises.hpp"

#include <Json.hpp>

#include <random>

namespace {

using nlohmann::json;
using octopus::adapter::read_json;
using octopus::adapter::write_json;

std::string written(const json &value)
{
    std::string text = "before";
    write_json(value, text);
    return text;
}

/* Equal, and of the same types: for `==` a whole number is one, with a sign or without. */
bool are_same(const json &left, const json &right)
{
    if (left.type() != right.type() || left.size() != right.size())
        return false;
    if (left.is_array())
        return std::equal(left.begin(), left.end(), right.begin(), are_same);
    if (left.is_object())
        return std::equal(left.items().begin(), left.items().end(), right.items().begin(), [](const auto &one, const auto &other) {
            return one.key() == other.key() && are_same(one.value(), other.value());
        });
    return left.is_discarded() || left == right;
}

void expect_as_theirs(const std::string &text)
{
    const json theirs = json::parse(text, nullptr, false), ours = read_json(text);
    if (!are_same(theirs, ours))
        throw std::runtime_error("read \"" + text + "\" as " + ours.dump() + ", not " + theirs.dump());
    if (!theirs.is_discarded() && written(theirs) != "before" + theirs.dump())
        throw std::runtime_error("wrote " + theirs.dump() + " as " + written(theirs));
}

const char *const whole[] = {
    R"({"detector":7,"frame":123456789})",
    R"( { "b" : [ 1 , -2 , 3.5 , -4e-3 , 1E+10 ] , "a" : { } , "c" : [ ] , "d" : null } )",
    R"([true,false,null,"",0,-0,-0.0,18446744073709551615,18446744073709551616,-9223372036854775808,-9223372036854775809])",
    R"([999999999999999999,-999999999999999999,1000000000000000000,0.1,1e308,1.7976931348623157e308])",
    R"({"same":1,"same":{"twice":2},"same":"thrice"})",
    R"({"a\"b":"c\\d","\u00e9":"\ud83d\ude00","é":"日本","tab":"\t","slash":"\/","zero":"\u0000"})",
    "\t\n\r 5 \n",
    "\"text\"",
    "\xef\xbb\xbf{\"with\":\"a mark\"}",
    "\"\x7f\"",
};

const char *const broken[] = {
    "", " ", "{", "}", "[", "]", "\"", "\"open", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}", "[1,]", "[,1]", "{a:1}", "{\"a\" 1}", "[1 2]",
    "tru", "truex", "True", "nul", "nan", "inf", "01", "-", "-01", "+1", "1.", ".5", "1e", "1e+", "1-2", "1e999", "0x10", "1 1", "{} {}",
    "[1]]", "'a'", "\"\n\"", "\"\\x\"", "\"\\u12\"", "\"\xff\"", "\"\xc3\"", "{\"a\":\"\xff\"}", "/**/1", "[1,2", "{\"a\":[}", "\x01",
};

void what_is_json_and_what_is_not_is_told_apart_as_nlohmanns_library_does()
{
    for (const char *text : whole) {
        EXPECT(!json::parse(text, nullptr, false).is_discarded());
        expect_as_theirs(text);
    }
    for (const char *text : broken) {
        EXPECT(json::parse(text, nullptr, false).is_discarded());
        expect_as_theirs(text);
    }
}

void nothing_is_too_deep()
{
    for (const std::size_t depth : {31, 32, 33, 34, 100, 1'000'000}) {
        const std::string text = std::string(depth, '[') + std::string(depth, ']');
        const json value = read_json(text);
        EXPECT(value.is_array());
        /* Neither theirs writes what is as deep as the stack. */
        if (depth <= 100)
            expect_as_theirs(text);
    }
}

/* Changed in some places, whole texts become others, and mostly broken ones. */
void changed_texts_are_read_as_nlohmanns_library_reads_them()
{
    constexpr unsigned seed = 7, rounds = 200'000;
    constexpr std::string_view characters = "{}[]\",:0123456789-+.eEtrufalsn \\/\t\n\x01\x7f\x80\xc3\xa9";
    std::mt19937 random(seed);
    const auto below = [&](std::size_t count) { return random() % count; };
    for (unsigned round = 0; round < rounds; round++) {
        std::string text = whole[below(std::size(whole))];
        for (std::size_t changes = 1 + below(3); changes > 0 && !text.empty(); changes--) {
            const std::size_t place = below(text.size());
            switch (below(3)) {
            case 0:
                text[place] = characters[below(characters.size())];
                break;
            case 1:
                text.insert(place, 1, characters[below(characters.size())]);
                break;
            default:
                text.erase(place, 1 + below(4));
            }
        }
        expect_as_theirs(text);
    }
}

void what_cannot_be_written_fails_as_in_nlohmanns_library()
{
    for (const json &value : {json("\xff"), json{{"\xff", 1}}, json{{"a", {1, "\xc3"}}}}) {
        const auto theirs = THROWN_BY(json::type_error, value.dump()), ours = THROWN_BY(json::type_error, written(value));
        EXPECT(theirs.id == ours.id);
    }
    for (const json &value : {json::binary({1, 2}), json(1.0 / 0.0), json(json::value_t::discarded)})
        EXPECT(written(value) == "before" + value.dump());
}

const promises::Promise all[] = {
    PROMISE(what_is_json_and_what_is_not_is_told_apart_as_nlohmanns_library_does),
    PROMISE(nothing_is_too_deep),
    PROMISE(changed_texts_are_read_as_nlohmanns_library_reads_them),
    PROMISE(what_cannot_be_written_fails_as_in_nlohmanns_library),
};

} // namespace

int main() { return promises::keep(all); }
