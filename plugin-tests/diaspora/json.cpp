/*
 * Tests that the adapter's own JSON parser and writer (src/diaspora/Json.cpp) behave as those of
 * the nlohmann library, and that any bytes have a JSON form (src/diaspora/Bytes.cpp).
 *
 *     ./json
 */

#include "../hosts/test_cases.hpp"

#include <Bytes.hpp>
#include <Json.hpp>

#include <random>

namespace {

using nlohmann::json;
using octopus::adapter::bytes_to_json;
using octopus::adapter::json_to_bytes;
using octopus::adapter::read_json;
using octopus::adapter::write_json;

std::string written(const json &value)
{
    std::string text = "before";
    write_json(value, text);
    return text;
}

/* Compares values and types. `==` alone ignores whether an integer is signed. */
bool are_identical(const json &left, const json &right)
{
    if (left.type() != right.type() || left.size() != right.size())
        return false;
    if (left.is_array())
        return std::equal(left.begin(), left.end(), right.begin(), are_identical);
    if (left.is_object())
        return std::equal(left.items().begin(), left.items().end(), right.items().begin(),
                          [](const auto &one, const auto &other) {
                              return one.key() == other.key() &&
                                     are_identical(one.value(), other.value());
                          });
    return left.is_discarded() || left == right;
}

void expect_same_result(const std::string &text)
{
    const json expected = json::parse(text, nullptr, false), actual = read_json(text);
    if (!are_identical(expected, actual))
        throw std::runtime_error("read \"" + text + "\" as " + actual.dump() + ", not " +
                                 expected.dump());
    if (!expected.is_discarded() && written(expected) != "before" + expected.dump())
        throw std::runtime_error("wrote " + expected.dump() + " as " + written(expected));
}

const char *const valid[] = {
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

const char *const invalid[] = {
    "",          " ",        "{",          "}",
    "[",         "]",        "\"",         "\"open",
    "{\"a\"}",   "{\"a\":}", "{\"a\":1,}", "{,}",
    "[1,]",      "[,1]",     "{a:1}",      "{\"a\" 1}",
    "[1 2]",     "tru",      "truex",      "True",
    "nul",       "nan",      "inf",        "01",
    "-",         "-01",      "+1",         "1.",
    ".5",        "1e",       "1e+",        "1-2",
    "1e999",     "0x10",     "1 1",        "{} {}",
    "[1]]",      "'a'",      "\"\n\"",     "\"\\x\"",
    "\"\\u12\"", "\"\xff\"", "\"\xc3\"",   "{\"a\":\"\xff\"}",
    "/**/1",     "[1,2",     "{\"a\":[}",  "\x01",
};

void texts_are_accepted_and_rejected_as_by_nlohmann_json()
{
    for (const char *text : valid) {
        EXPECT(!json::parse(text, nullptr, false).is_discarded());
        expect_same_result(text);
    }
    for (const char *text : invalid) {
        EXPECT(json::parse(text, nullptr, false).is_discarded());
        expect_same_result(text);
    }
}

void nesting_depth_is_not_limited()
{
    for (const std::size_t depth : {31, 32, 33, 34, 100, 1'000'000}) {
        const std::string text = std::string(depth, '[') + std::string(depth, ']');
        const json value = read_json(text);
        EXPECT(value.is_array());
        /* nlohmann's writer is recursive and overflows the stack at greater depths. */
        if (depth <= 100)
            expect_same_result(text);
    }
}

/* Mutates valid texts at a few places, which makes most of them invalid. */
void mutated_texts_are_parsed_as_by_nlohmann_json()
{
    constexpr unsigned seed = 7, rounds = 200'000;
    constexpr std::string_view characters =
        "{}[]\",:0123456789-+.eEtrufalsn \\/\t\n\x01\x7f\x80\xc3\xa9";
    std::mt19937 random(seed);
    const auto below = [&](std::size_t count) { return random() % count; };
    for (unsigned round = 0; round < rounds; round++) {
        std::string text = valid[below(std::size(valid))];
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
        expect_same_result(text);
    }
}

void unwritable_values_fail_as_in_nlohmann_json()
{
    for (const json &value : {json("\xff"), json{{"\xff", 1}}, json{{"a", {1, "\xc3"}}}}) {
        const auto expected = THROWN_BY(json::type_error, value.dump()),
                   actual = THROWN_BY(json::type_error, written(value));
        EXPECT(expected.id == actual.id);
    }
    for (const json &value :
         {json::binary({1, 2}), json(1.0 / 0.0), json(json::value_t::discarded)})
        EXPECT(written(value) == "before" + value.dump());
}

bool can_be_written(const std::string &text)
{
    try {
        json(text).dump();
        return true;
    } catch (const json::type_error &) {
        return false;
    }
}

/* Bytes are a JSON string if the nlohmann library can write them as one. */
void any_bytes_survive_as_json()
{
    constexpr unsigned seed = 7, rounds = 200'000;
    /* Among these are the first and the last byte of each range in UTF-8. */
    constexpr std::string_view bytes_of_characters =
        "a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xf8\xff";
    std::mt19937 random(seed);
    const auto below = [&](std::size_t count) { return random() % count; };
    unsigned texts = 0;
    for (unsigned round = 0; round < rounds; round++) {
        std::string bytes(below(7), ' ');
        for (char &byte : bytes)
            byte = below(5) == 0 ? static_cast<char>(below(256))
                                 : bytes_of_characters[below(bytes_of_characters.size())];
        const json value = bytes_to_json(bytes);
        EXPECT(value.is_string() == can_be_written(bytes) &&
               json_to_bytes(json::parse(value.dump())) == bytes);
        texts += value.is_string() && bytes.size() > 1 ? 1 : 0;
    }
    EXPECT(texts > 1'000);
}

void bytes_have_one_form_in_base64()
{
    const auto base64 = [](const json &text) { return json{{"base64", text}}; };
    EXPECT(bytes_to_json("\xfb\xff\xfe") == base64("+//+") &&
           bytes_to_json("\xff") == base64("/w=="));
    EXPECT(json_to_bytes(base64("")) == "" && json_to_bytes(base64("bm8=")) == "no");
    for (const char *invalid : {"b", "bm", "bm8", "bm8==", "bm8=bm8=", "====", "b===", "bm9=",
                                "bn==", "+_-+", "b 8=", "bm8=\n", "=m8=", "b=8="})
        EXPECT(!json_to_bytes(base64(invalid)));
    for (const json &other : {json(), json(1), json::array({"a"}), json::object(), base64(1),
                              json{{"base64", "bm8="}, {"more", 1}}, json{{"Base64", "bm8="}}})
        EXPECT(!json_to_bytes(other));
}

const test_cases::TestCase all[] = {
    TEST_CASE(texts_are_accepted_and_rejected_as_by_nlohmann_json),
    TEST_CASE(nesting_depth_is_not_limited),
    TEST_CASE(mutated_texts_are_parsed_as_by_nlohmann_json),
    TEST_CASE(unwritable_values_fail_as_in_nlohmann_json),
    TEST_CASE(any_bytes_survive_as_json),
    TEST_CASE(bytes_have_one_form_in_base64),
};

} // namespace

int main() { return test_cases::run_all(all); }
