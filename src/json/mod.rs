//! Checks that a text is JSON that each reader of a topic can parse. The check builds no value: the
//! text goes to Kafka unchanged, so that floats stay exact and the nesting depth has no limit. Also
//! parses values, for configurations and schemas.

mod plain;

use std::fmt;
use std::str::Utf8Error;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::support::stack;

/// As [`str::from_utf8`], with a fast path for ASCII: most metadata is short and ASCII.
pub fn from_utf8(bytes: &[u8]) -> Result<&str, Utf8Error> {
    // SAFETY: `is_ascii` has checked that the bytes are ASCII, which is valid UTF-8.
    if bytes.is_ascii() { Ok(unsafe { str::from_utf8_unchecked(bytes) }) } else { str::from_utf8(bytes) }
}

/// Accepts a text that both RFC 8259 and the parser of C++ readers (nlohmann::json) accept. That
/// parser rejects two things that the grammar allows: half surrogate pairs, and numbers beyond a
/// double.
pub fn check(text: &str) -> Result<(), String> {
    if plain::is_plain(text) { Ok(()) } else { check_fully(text) }
}

/// The check of any text, without the fast path. Returns the reason of a rejection.
fn check_fully(text: &str) -> Result<(), String> {
    // serde_json ignores a value without recursion, so that deep nesting takes heap, not stack.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    check_surrogates(text.as_bytes())?;
    check_numbers(text.as_bytes())
}

/// Parses a value of at most 128 levels. serde_json's own `Value` treats an object with the key
/// `$serde_json::private::RawValue` as JSON text to parse in its place; then a schema would see
/// another value than the metadata.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    stack::with(stack::FOR_JSON, || serde_json::from_str::<PlainValue>(text).map(|PlainValue(value)| value))
}

/// A value without special keys.
struct PlainValue(Value);

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PlainVisitor).map(PlainValue)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(PlainValue(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, PlainValue(value))) = members.next_entry()? {
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn check_surrogates(text: &[u8]) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest = &rest[at + 1..];
        match (rest.first(), escaped_unit(rest)) {
            (_, Some(0xD800..=0xDBFF)) => {
                let follower = rest.get(5..).filter(|next| next.first() == Some(&b'\\')).map(|next| &next[1..]);
                if !matches!(follower.and_then(escaped_unit), Some(0xDC00..=0xDFFF)) {
                    return Err("a \\u escape is the first half of a surrogate pair without the second".to_owned());
                }
                rest = &rest[11..];
            }
            (_, Some(0xDC00..=0xDFFF)) => {
                return Err("a \\u escape is the second half of a surrogate pair without the first".to_owned());
            }
            (Some(_), _) => rest = &rest[1..],
            (None, _) => {}
        }
    }
    Ok(())
}

/// The code unit of `uXXXX`, if `escape` starts with that.
fn escaped_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn check_numbers(text: &[u8]) -> Result<(), String> {
    // Without an exponent, only a number of more than 300 digits can exceed a double.
    const SAFE_DIGITS: usize = 300;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at = end_of_string(text, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|c| is_number_part(**c)).count();
                let number = &text[at..at + length];
                if length > SAFE_DIGITS || number.iter().any(|c| matches!(c, b'e' | b'E')) {
                    let number = std::str::from_utf8(number).unwrap_or_default();
                    if !number.parse::<f64>().is_ok_and(f64::is_finite) {
                        return Err(format!("the number {number:.40} is beyond what a double can hold"));
                    }
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

fn is_number_part(c: u8) -> bool {
    c.is_ascii_digit() || matches!(c, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The index after the closing quote of the string whose content starts at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{check, parse};

    #[test]
    fn any_json_value_is_accepted() {
        for text in ["{}", "[]", "\"bare\"", "null", "true", "-0.5e-3", " {\"a\": [1, 2.5, \"\\u00e4\\n\"]} "] {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    /// Other values are parsed as serde_json parses them.
    #[test]
    fn value_keeps_the_private_key_of_serde_json() {
        for text in [
            r#"{"a": [1, -2, 2.5e-3, 18446744073709551615, null, true, "\u00e4"], "b": {}, "a": {"c": 0}}"#,
            "1",
            "[[]]",
        ] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        for text in ["1e999", "\"\\ud83d\"", "[1,]", "{1: 2}", "1 2", &("[".repeat(128) + &"]".repeat(128))] {
            assert!(parse(text).is_err(), "{text}");
        }
        let object = parse(r#"{"$serde_json::private::RawValue": "[1]"}"#).unwrap();
        assert_eq!(object["$serde_json::private::RawValue"], "[1]");
    }

    #[test]
    fn text_that_is_not_json_is_rejected() {
        for text in ["", "{", "nul", "NaN", "Infinity", "[1,]", "{'a':1}", "1 2", "\"\n\"", "01", "\"\\x\""] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_nesting_depth_is_accepted() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        check(&deep).unwrap();
        assert!(check(&deep[1..]).is_err());
    }

    #[test]
    fn half_a_surrogate_pair_is_rejected() {
        for text in [r#""\ud83d\ude00""#, r#""\uD83D\uDE00x""#, r#""\\ud83d""#, r#""\\\\ude00""#, r#""\u00e4\\""#] {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\ud83d\u0041""#, r#""\ud83d\n""#] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn number_beyond_a_double_is_rejected() {
        let long = "9".repeat(400);
        for text in ["1e999", "[-1E+400]", "{\"a\\\"\": 1e309}", &long] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in ["1e308", "1e-999", "\"1e999\"", "{\"1e999\": 123456789012345678901234567890}"] {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
