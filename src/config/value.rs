//! Converts a JSON value to the type of an option. Command-line tools pass all values as strings,
//! so `"3"` and `"true"` are accepted as a number and a boolean.

use serde_json::{Map, Value};

use crate::support::error::{Error, Result};

pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub fn as_object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::configuration(key, format_args!("expected an object, got {}", kind(value))))
}

/// An object that has no other keys than these.
pub fn as_options<'a>(key: &str, value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>> {
    let options = as_object(key, value)?;
    match options.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(options),
        Some(name) => Err(Error::configuration(
            format_args!("{key}.{name}"),
            format_args!("no such option; expected one of {}", known.join(", ")),
        )),
    }
}

pub fn as_text<'a>(key: &str, value: &'a Value) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Error::configuration(key, format_args!("expected a string, got {}", kind(value))))
}

pub fn as_bool(key: &str, value: &Value) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        other => Err(Error::configuration(key, format_args!("expected true or false, got {other}"))),
    }
}

/// A whole number from 1 to `max`.
pub fn as_count(key: &str, value: &Value, max: u64) -> Result<u64> {
    as_number(key, value, 1, max)
}

/// A whole number from `min` to `max`.
pub fn as_number(key: &str, value: &Value, min: u64, max: u64) -> Result<u64> {
    let number = match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float >= 0.0 => Some(float as u64),
            _ => number.as_u64(),
        },
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(count) if (min..=max).contains(&count) => Ok(count),
        _ => Err(Error::configuration(key, format_args!("expected a whole number from {min} to {max}, got {value}"))),
    }
}
