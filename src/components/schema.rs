//! The `schema` validator: JSON Schema draft 7.

use std::mem::ManuallyDrop;

use octopus_json_schema::{Problem, Schema};
use serde_json::Value;

use super::schema_cost::{SchemaCost, cost_of};
use super::traits::Validator;
use crate::json;
use crate::support::error::{Error, Kind, Result, shortened};
use crate::support::stack;

pub struct SchemaValidator {
    schema: ManuallyDrop<Schema>,
    cost: SchemaCost,
}

impl Drop for SchemaValidator {
    /// Recurses as deep as the compilation did.
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and nothing uses `schema` after it.
        stack::with(stack::FOR_SCHEMA, || unsafe { ManuallyDrop::drop(&mut self.schema) });
    }
}

/// The levels of the metadata times the depth of the schema: as many calls as a stack of
/// [`stack::FOR_SCHEMA`] holds.
const MAX_DEPTH: usize = 2_000;
/// The values of the metadata times the schemas for one value, up to which the reasons of all of
/// them are collected. Above, only the first reason is reported.
const MAX_CHECKS: u64 = 100_000;

impl SchemaValidator {
    /// Compiles `{"type": "schema", "schema": {…}}`.
    pub fn make(json: &str) -> Result<Self> {
        stack::with(stack::FOR_SCHEMA, || SchemaValidator::compile(json))
    }

    fn compile(json: &str) -> Result<Self> {
        let reject = |reason: String| Error::new(Kind::Component, reason);
        let component = json::parse(json).map_err(|cause| reject(format!("not JSON: {cause}")))?;
        let schema = match component.get("schema") {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema,
            Some(other) => return Err(reject(format!("its \"schema\" should be an object, got {}", shortened(other)))),
            None => {
                return Err(reject("it has no \"schema\"; expected {\"type\":\"schema\",\"schema\":{…}}".to_owned()));
            }
        };
        let cost = cost_of(schema).map_err(|reason| reject(format!("its \"schema\" can't be used: {reason}")))?;
        // C++ Octopus does not check formats either (`schema_format`).
        let schema = Schema::compile(schema).map_err(|problem| {
            let place = problem.place();
            reject(format!("its \"schema\" is not a JSON Schema of draft 7: at {place:?}: {}", shortened(&problem)))
        })?;
        Ok(SchemaValidator { schema: ManuallyDrop::new(schema), cost })
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
        const MAX_REASONS: usize = 3;
        let reject = |reason: String| {
            Error::new(Kind::InvalidMetadata, format!("the topic's schema does not allow the metadata: {reason}"))
        };
        // `json::parse` accepts 128 levels: a deeper value could overflow the stack of a host's
        // thread.
        let value = json::parse(metadata).map_err(|cause| {
            reject(format!("{cause}; with a schema it can have at most 128 levels of arrays and objects"))
        })?;
        let (levels, values) = levels_and_values(&value);
        if levels * self.cost.depth > MAX_DEPTH {
            let depth = self.cost.depth;
            return Err(reject(format!(
                "it has {levels} levels of arrays and objects, and the schema is {depth} subschemas deep at each; the \
                 product may be at most {MAX_DEPTH}"
            )));
        }
        if self.schema.is_valid(&value) {
            return Ok(());
        }
        let reason = |problem: &Problem| format!("at {:?}: {}", problem.place(), shortened(problem));
        let reasons: Vec<String> = if values.saturating_mul(self.cost.size) <= MAX_CHECKS {
            self.schema.problems(&value, MAX_REASONS).iter().map(reason).collect()
        } else {
            self.schema.first_problem(&value).iter().map(reason).collect()
        };
        Err(reject(reasons.join("; ")))
    }
}

/// How deep values are nested, the outermost included, and how many there are in total.
fn levels_and_values(value: &Value) -> (usize, u64) {
    let add = |(levels, values): (usize, u64), part: (usize, u64)| (levels.max(part.0), values + part.1);
    let (levels, values) = match value {
        Value::Array(items) => items.iter().map(levels_and_values).fold((0, 0), add),
        Value::Object(members) => members.values().map(levels_and_values).fold((0, 0), add),
        _ => (0, 0),
    };
    (levels + 1, values + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn validator(schema: Value) -> Result<SchemaValidator> {
        SchemaValidator::make(&json!({"type": "schema", "schema": schema}).to_string())
    }

    #[test]
    fn invalid_metadata_is_rejected_with_its_location() {
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
        for (invalid, place) in
            [(r#"{"energy": 0}"#, "/energy"), (r#"{"energy": 1, "tags": [1], "author": 2}"#, "/tags/0"), ("[]", "\"\"")]
        {
            let error = validator.validate(invalid, &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidMetadata);
            assert!(error.message().contains(place), "{error}");
        }
    }

    #[test]
    fn error_shortens_the_quoted_value() {
        let validator = validator(json!({"type": "object"})).unwrap();
        let long = format!("\"{}\"", "ä".repeat(100_000));
        assert!(validator.validate(&long, &[]).unwrap_err().message().len() < 1_000);
        let no_schema = json!({"type": "schema", "schema": {"type": "x".repeat(10_000)}}).to_string();
        assert!(SchemaValidator::make(&no_schema).map(drop).unwrap_err().message().len() < 1_000);
    }

    #[test]
    fn metadata_nested_beyond_128_levels_is_rejected() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert!(validator(json!({})).unwrap().validate(&deep, &[]).unwrap_err().message().contains("128"));
    }

    #[test]
    fn long_chain_of_refs_does_not_overflow_the_stack() {
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
        for (levels, reason) in [(9, "not of type"), (11, "12 levels"), (100, "101 levels")] {
            let message = deep.validate(&nested(levels), &[]).unwrap_err().message().to_owned();
            assert!(message.contains(reason), "{levels} levels: {message}");
        }
    }

    #[test]
    fn doubling_alternatives_do_not_exhaust_memory() {
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
    fn schema_sees_metadata_with_a_key_reserved_by_serde_json() {
        let needs_energy = validator(json!({"type": "object", "required": ["energy"]})).unwrap();
        // serde_json replaces an object with this key by the JSON in the key's value.
        let other = r#"{"$serde_json::private::RawValue": "{\"energy\": 1}"}"#;
        assert!(needs_energy.validate(other, &[]).is_err(), "the stored metadata has no energy");
        let named = r#"{"\u0024serde_json::private::RawValue": 1.5, "energy": [-1, 18446744073709551615, null]}"#;
        needs_energy.validate(named, &[]).unwrap();
    }

    #[test]
    fn invalid_schema_is_rejected() {
        for (schema, reason) in [(json!(3), "an object"), (json!({"type": "nonsense"}), "draft 7")] {
            let message = validator(schema).map(drop).unwrap_err().message().to_owned();
            assert!(message.contains(reason), "{message}");
        }
        assert!(SchemaValidator::make(r#"{"type": "schema"}"#).is_err());
    }

    #[test]
    fn remote_schema_is_rejected() {
        assert!(validator(json!({"$ref": "http://localhost:1/schema.json"})).is_err());
    }
}
