//! Finds the keyword `format` in the schema of a topic's validator. Builds without the feature
//! `schema` check it, too: they create topics that others open.

use serde_json::Value;

use super::Component;
use crate::json;
use crate::support::error::{Error, Kind, Result};
use crate::support::stack;

/// Rejects a schema that uses `format`: C++ Octopus fails to open a topic with it.
pub fn reject_format(validator: &Component) -> Result<()> {
    if validator.type_name != "schema" {
        return Ok(());
    }
    let place = stack::with(stack::FOR_SCHEMA, || {
        let component = json::parse(validator.json()).unwrap_or_default();
        component.get("schema").and_then(|schema| find_format(schema, "/schema"))
    });
    match place {
        None => Ok(()),
        Some(place) => Err(Error::new(
            Kind::Component,
            format!(
                "the validator: its schema uses \"format\" at {place}, and C++ Octopus can't open topics with that; \
                 use \"pattern\", or remove it"
            ),
        )),
    }
}

/// The JSON pointer of the keyword `format`. A property of that name, or a value in `enum` or
/// `const`, does not count.
fn find_format(schema: &Value, place: &str) -> Option<String> {
    let inside = |key: &str| format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
    match schema {
        Value::Array(schemas) => {
            schemas.iter().enumerate().find_map(|(index, schema)| find_format(schema, &format!("{place}/{index}")))
        }
        Value::Object(keywords) => keywords.iter().find_map(|(keyword, value)| match keyword.as_str() {
            "format" if value.is_string() => Some(inside(keyword)),
            "properties" | "patternProperties" | "definitions" | "$defs" | "dependencies" => {
                let named = value.as_object()?;
                named.iter().find_map(|(name, schema)| {
                    find_format(schema, &format!("{}/{}", inside(keyword), name.replace('~', "~0").replace('/', "~1")))
                })
            }
            "items"
            | "additionalItems"
            | "contains"
            | "additionalProperties"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else"
            | "allOf"
            | "anyOf"
            | "oneOf" => find_format(value, &inside(keyword)),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Role;
    use super::*;

    fn place_of_format(schema: Value) -> Option<String> {
        let component = json!({"type": "schema", "schema": schema}).to_string();
        reject_format(&Component::parse(Role::Validator, &component).unwrap()).err().map(|e| e.message().to_owned())
    }

    #[test]
    fn format_keyword_is_found_at_any_depth() {
        let with_place = [
            (json!({"format": "date"}), "/schema/format"),
            (json!({"properties": {"a/b": {"format": "uri"}}}), "/schema/properties/a~1b/format"),
            (json!({"allOf": [{}, {"items": {"format": "ipv4"}}]}), "/schema/allOf/1/items/format"),
            (json!({"definitions": {"x": {"not": {"format": "x"}}}}), "/schema/definitions/x/not/format"),
        ];
        for (schema, place) in with_place {
            assert!(place_of_format(schema).unwrap().contains(place), "{place}");
        }
        for without in [
            json!({"properties": {"format": {"type": "string"}}}),
            json!({"enum": [{"format": "date"}]}),
            json!({"const": {"format": "date"}, "default": {"format": "date"}}),
            json!({"required": ["format"]}),
            json!({"x-note": {"format": "date"}, "examples": [{"format": "date"}]}),
            json!(true),
        ] {
            assert_eq!(place_of_format(without), None);
        }
    }
}
