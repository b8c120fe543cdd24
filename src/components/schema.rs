//! The `schema` validator: JSON Schema, draft 7, by the jsonschema crate, which is built so that it fetches nothing.

use std::mem::ManuallyDrop;

use serde_json::Value;

use super::Component;
use super::parts::Validator;
use super::unfolding::{Unfolded, unfold};
use crate::error::{Error, Kind, Result, shortened};
use crate::{json, stack};

pub struct SchemaValidator {
    schema: ManuallyDrop<jsonschema::Validator>,
    unfolded: Unfolded,
}

impl Drop for SchemaValidator {
    /// As deep as it was built.
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards.
        stack::with(stack::FOR_SCHEMA, || unsafe { ManuallyDrop::drop(&mut self.schema) });
    }
}

/// Schemas within each other, over all levels of the metadata: what a stack of `stack::FOR_SCHEMA` holds.
const DEEPEST: usize = 2_000;
/// Schemas that look at a value, over all values of the metadata: so many at most may each have a reason to be collected.
const MOST_TO_ASK: u64 = 100_000;

impl SchemaValidator {
    /// From `{"type": "schema", "schema": {…}}`.
    pub fn make(json: &str) -> Result<Self> {
        stack::with(stack::FOR_SCHEMA, || SchemaValidator::compile(json))
    }

    fn compile(json: &str) -> Result<Self> {
        let refuse = |why: String| Error::new(Kind::Component, why);
        let component = json::value(json).map_err(|why| refuse(format!("not JSON: {why}")))?;
        let schema = match component.get("schema") {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema,
            Some(other) => return Err(refuse(format!("its \"schema\" should be an object, got {}", shortened(other)))),
            None => {
                return Err(refuse("it has no \"schema\"; expected {\"type\":\"schema\",\"schema\":{…}}".to_owned()));
            }
        };
        let unfolded = unfold(schema).map_err(|why| refuse(format!("its \"schema\" can't be used: {why}")))?;
        // Formats are remarks to C++ readers at best.
        let schema = jsonschema::draft7::options().should_validate_formats(false).build(schema).map_err(|why| {
            let place = why.instance_path().as_str();
            refuse(format!("its \"schema\" is no JSON Schema of draft 7: at {place:?}: {}", shortened(&why)))
        })?;
        Ok(SchemaValidator { schema: ManuallyDrop::new(schema), unfolded })
    }
}

impl Validator for SchemaValidator {
    fn wants_data(&self) -> bool {
        false
    }

    fn validate(&self, metadata: &str, _: &[&[u8]]) -> Result<()> {
        stack::with(stack::FOR_SCHEMA, || self.check(metadata))
    }
}

impl SchemaValidator {
    fn check(&self, metadata: &str) -> Result<()> {
        const MOST_REASONS: usize = 3;
        let refuse = |why: String| {
            Error::new(Kind::InvalidMetadata, format!("the topic's schema does not allow the metadata: {why}"))
        };
        // 128 levels at most: beyond, building the value would take a stack that a host's thread may not have.
        let value = json::value(metadata).map_err(|why| {
            refuse(format!("{why}; with a schema it can have at most 128 levels of arrays and objects"))
        })?;
        let (levels, values) = levels_and_values(&value);
        if levels * self.unfolded.depth > DEEPEST {
            let depth = self.unfolded.depth;
            return Err(refuse(format!(
                "it has {levels} levels of arrays and objects, and at each the schema leads {depth} subschemas deep; \
                 together at most {DEEPEST} can be looked at"
            )));
        }
        if self.schema.is_valid(&value) {
            return Ok(());
        }
        let reason = |error: &jsonschema::ValidationError| {
            format!("at {:?}: {}", error.instance_path().as_str(), shortened(error))
        };
        // All reasons are collected before the first is given.
        let reasons: Vec<String> = if values.saturating_mul(self.unfolded.size) <= MOST_TO_ASK {
            self.schema.iter_errors(&value).take(MOST_REASONS).map(|error| reason(&error)).collect()
        } else {
            self.schema.validate(&value).err().iter().map(reason).collect()
        };
        Err(refuse(reasons.join("; ")))
    }
}

/// How many values are within each other, itself included, and how many there are in all.
fn levels_and_values(value: &Value) -> (usize, u64) {
    let within = |value| levels_and_values(value);
    let add = |(levels, values): (usize, u64), part: (usize, u64)| (levels.max(part.0), values + part.1);
    let (levels, values) = match value {
        Value::Array(items) => items.iter().map(within).fold((0, 0), add),
        Value::Object(members) => members.values().map(within).fold((0, 0), add),
        _ => (0, 0),
    };
    (levels + 1, values + 1)
}

/// C++ Octopus fails to open a topic whose schema uses `format`, so no such topic shall be made.
pub fn refuse_format(validator: &Component) -> Result<()> {
    if validator.type_name != "schema" {
        return Ok(());
    }
    let place = stack::with(stack::FOR_SCHEMA, || {
        let component = json::value(validator.json()).unwrap_or_default();
        component.get("schema").and_then(|schema| find_format(schema, "/schema"))
    });
    match place {
        None => Ok(()),
        Some(place) => Err(Error::new(
            Kind::Component,
            format!(
                "the validator: its schema uses \"format\" at {place}, and C++ Octopus can't open topics with that; use \
                 \"pattern\", or leave it out"
            ),
        )),
    }
}

/// Where the keyword stands, as a JSON pointer; a property of that name, or a value to compare with, is none.
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

    fn validator(schema: Value) -> Result<SchemaValidator> {
        SchemaValidator::make(&json!({"type": "schema", "schema": schema}).to_string())
    }

    fn place_of_format(schema: Value) -> Option<String> {
        let component = json!({"type": "schema", "schema": schema}).to_string();
        refuse_format(&Component::parse(Role::Validator, &component).unwrap()).err().map(|e| e.message().to_owned())
    }

    #[test]
    fn what_the_schema_allows_passes_and_the_rest_is_refused_with_the_place() {
        let validator = validator(json!({
            "definitions": {"positive": {"type": "number", "exclusiveMinimum": 0}},
            "type": "object",
            "required": ["energy"],
            "properties": {"energy": {"$ref": "#/definitions/positive"}, "tags": {"items": {"type": "string"}}},
            "if": {"required": ["tags"]}, "then": {"required": ["author"]},
        }))
        .unwrap();
        for allowed in [r#"{"energy": 1}"#, r#"{"energy": 0.5, "tags": ["a"], "author": "b"}"#] {
            validator.validate(allowed, &[]).unwrap();
        }
        for (refused, place) in
            [(r#"{"energy": 0}"#, "/energy"), (r#"{"energy": 1, "tags": [1], "author": 2}"#, "/tags/0"), ("[]", "\"\"")]
        {
            let error = validator.validate(refused, &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidMetadata);
            assert!(error.message().contains(place), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_not_quoted_at_any_length() {
        let validator = validator(json!({"type": "object"})).unwrap();
        let long = format!("\"{}\"", "ä".repeat(100_000));
        assert!(validator.validate(&long, &[]).unwrap_err().message().len() < 1_000);
        let no_schema = json!({"type": "schema", "schema": {"type": "x".repeat(10_000)}}).to_string();
        assert!(SchemaValidator::make(&no_schema).map(drop).unwrap_err().message().len() < 1_000);
    }

    #[test]
    fn metadata_nested_too_deeply_to_be_looked_at_is_refused() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert!(validator(json!({})).unwrap().validate(&deep, &[]).unwrap_err().message().contains("128"));
    }

    #[test]
    fn a_schema_whose_refs_lead_far_ends_no_process_that_pushes() {
        let chain = |count: usize| {
            let mut definitions = serde_json::Map::new();
            for index in 0..count {
                definitions.insert(index.to_string(), json!({"$ref": format!("#/definitions/{}", index + 1)}));
            }
            definitions.insert(count.to_string(), json!({"type": "array", "items": {"$ref": "#"}}));
            json!({"definitions": definitions, "$ref": "#/definitions/0"})
        };
        let message = validator(chain(20_000)).map(drop).unwrap_err().message().to_owned();
        assert!(message.contains("1000 deep"), "{message}");
        let deep = validator(chain(190)).unwrap();
        let nested = |levels: usize| "[".repeat(levels) + "1" + &"]".repeat(levels);
        for (levels, why) in [(9, "not of type"), (11, "12 levels"), (100, "101 levels")] {
            let message = deep.validate(&nested(levels), &[]).unwrap_err().message().to_owned();
            assert!(message.contains(why), "{levels} levels: {message}");
        }
    }

    #[test]
    fn alternatives_that_double_again_and_again_fill_no_memory() {
        let doubling = |count: usize| {
            let mut schema = json!({"type": "string"});
            for _ in 0..count {
                schema = json!({"anyOf": [schema, schema]});
            }
            schema
        };
        let message = validator(doubling(11)).unwrap().validate("1", &[]).unwrap_err().message().to_owned();
        assert!(message.contains("anyOf"), "{message}");
        assert!(validator(doubling(14)).is_err());
    }

    #[test]
    fn a_schema_sees_metadata_as_it_is_whatever_its_keys_are_called() {
        let needs_energy = validator(json!({"type": "object", "required": ["energy"]})).unwrap();
        // serde_json's values are made of the text within where a key is called so.
        let other = r#"{"$serde_json::private::RawValue": "{\"energy\": 1}"}"#;
        assert!(needs_energy.validate(other, &[]).is_err(), "what is stored has no energy");
        let named = r#"{"\u0024serde_json::private::RawValue": 1.5, "energy": [-1, 18446744073709551615, null]}"#;
        needs_energy.validate(named, &[]).unwrap();
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (schema, why) in [(json!(3), "an object"), (json!({"type": "nonsense"}), "draft 7")] {
            let message = validator(schema).map(drop).unwrap_err().message().to_owned();
            assert!(message.contains(why), "{message}");
        }
        assert!(SchemaValidator::make(r#"{"type": "schema"}"#).is_err());
    }

    #[test]
    fn a_schema_that_would_have_to_be_fetched_is_refused() {
        assert!(validator(json!({"$ref": "http://localhost:1/schema.json"})).is_err());
    }

    #[test]
    fn the_keyword_format_is_found_wherever_it_is_one() {
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
