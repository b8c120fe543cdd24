//! Computes the cost of a schema after its `$ref`s are resolved: how deep the validator recurses
//! for one value, and how many subschemas it applies to it. A short schema can make both unbounded
//! (a chain of definitions, or definitions that refer to the next one twice). Without a limit, the
//! author of a topic's schema could crash the processes that push to the topic, or exhaust their
//! memory.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Nested subschemas for one value; far more than in schemas that people write.
const MAX_DEPTH: usize = 1_000;
/// Subschemas that apply to one value.
const MAX_SIZE: u64 = 10_000;

/// The number of subschemas that apply to the same value, for the max expensive schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchemaCost {
    /// Nested in each other.
    pub depth: usize,
    /// In total.
    pub size: u64,
}

/// The cost of `schema`; an error names the limit that it exceeds.
pub fn cost_of(schema: &Value) -> Result<SchemaCost, String> {
    let mut by_id = HashMap::new();
    collect_ids(schema, &mut by_id);
    let mut evaluation =
        Evaluation { root: schema, by_id, known: HashMap::new(), in_progress: HashSet::new(), may_loop: false };
    let mut max = SchemaCost::default();
    evaluation.evaluate_all(schema, &mut max)?;
    if evaluation.may_loop {
        // In a cycle the validator stops at the second visit, so at most all schemas are nested.
        max.depth = evaluation.known.len();
    }
    if max.depth > MAX_DEPTH {
        return Err(too_deep());
    }
    if max.size > MAX_SIZE {
        return Err(format!(
            "its subschemas and $refs apply {} schemas to one value, and at most {MAX_SIZE} are allowed",
            max.size
        ));
    }
    Ok(max)
}

fn too_deep() -> String {
    format!("its subschemas and $refs are more than {MAX_DEPTH} deep for one value")
}

/// Collects the schemas that have an `$id`.
fn collect_ids<'a>(value: &'a Value, by_id: &mut HashMap<&'a str, &'a Value>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(id)) = map.get("$id") {
                by_id.insert(id, value);
            }
            map.values().for_each(|value| collect_ids(value, by_id));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_ids(value, by_id)),
        _ => {}
    }
}

struct Evaluation<'a> {
    root: &'a Value,
    by_id: HashMap<&'a str, &'a Value>,
    known: HashMap<*const Value, SchemaCost>,
    /// The schemas that are being evaluated.
    in_progress: HashSet<*const Value>,
    /// Some refer back to themselves, or to a schema that is not found.
    may_loop: bool,
}

impl<'a> Evaluation<'a> {
    /// Evaluates every object, since a `$ref` can refer to any of them.
    fn evaluate_all(&mut self, value: &'a Value, max: &mut SchemaCost) -> Result<(), String> {
        match value {
            Value::Object(map) => {
                let found = self.evaluate(value)?;
                *max = SchemaCost { depth: max.depth.max(found.depth), size: max.size.max(found.size) };
                map.values().try_for_each(|value| self.evaluate_all(value, max))
            }
            Value::Array(items) => items.iter().try_for_each(|value| self.evaluate_all(value, max)),
            _ => Ok(()),
        }
    }

    fn evaluate(&mut self, schema: &'a Value) -> Result<SchemaCost, String> {
        if let Some(known) = self.known.get(&std::ptr::from_ref(schema)) {
            return Ok(*known);
        }
        if self.in_progress.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        if !self.in_progress.insert(schema) {
            self.may_loop = true;
            return Ok(SchemaCost::default());
        }
        let mut total = SchemaCost { depth: 1, size: 1 };
        for subschema in self.subschemas(schema) {
            let cost = self.evaluate(subschema)?;
            total = SchemaCost { depth: total.depth.max(cost.depth + 1), size: total.size.saturating_add(cost.size) };
        }
        self.in_progress.remove(&std::ptr::from_ref(schema));
        self.known.insert(schema, total);
        Ok(total)
    }

    /// The subschemas that apply to the same value as `schema`.
    fn subschemas(&mut self, schema: &'a Value) -> Vec<&'a Value> {
        let Some(keywords) = schema.as_object() else { return Vec::new() };
        if let Some(Value::String(reference)) = keywords.get("$ref") {
            let found = self.resolve(reference);
            self.may_loop |= found.is_none();
            return found.into_iter().collect();
        }
        keywords
            .iter()
            .flat_map(|(keyword, value)| match (keyword.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter().collect(),
                ("dependencies", Value::Object(named)) => named.values().filter(|schema| schema.is_object()).collect(),
                ("not" | "if" | "then" | "else", schema) => vec![schema],
                _ => Vec::new(),
            })
            .collect()
    }

    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        match reference.strip_prefix('#') {
            Some("") => Some(self.root),
            Some(pointer) if pointer.starts_with('/') => {
                let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
                self.root.pointer(&pointer)
            }
            _ => self.by_id.get(reference).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A chain of definitions, each built from the next one.
    fn definitions(count: usize, last: Value, link: impl Fn(Value) -> Value) -> Value {
        let name = |index: usize| format!("d{index}");
        let mut all = serde_json::Map::new();
        for index in 0..count {
            all.insert(name(index), link(json!({"$ref": format!("#/definitions/{}", name(index + 1))})));
        }
        all.insert(name(count), last);
        json!({"definitions": all, "$ref": "#/definitions/d0"})
    }

    #[test]
    fn cost_includes_referenced_schemas() {
        assert_eq!(cost_of(&json!({})).unwrap(), SchemaCost { depth: 1, size: 1 });
        let doubled = definitions(3, json!({}), |next| json!({"anyOf": [next, next]}));
        assert_eq!(cost_of(&doubled).unwrap(), SchemaCost { depth: 8, size: 30 });
        let elsewhere = json!({"properties": {"a": {"not": {"$ref": "#x"}}}, "definitions": {"b": {"$id": "#x"}}});
        assert_eq!(cost_of(&elsewhere).unwrap(), SchemaCost { depth: 3, size: 3 });
    }

    #[test]
    fn chain_too_deep_for_the_stack_is_rejected() {
        for link in [|next| next, |next: Value| json!({"allOf": [next]})] {
            cost_of(&definitions(400, json!({}), link)).unwrap();
            for count in [2_000, 20_000] {
                let reason = cost_of(&definitions(count, json!({}), link)).unwrap_err();
                assert!(reason.contains("deep"), "{reason}");
            }
        }
    }

    #[test]
    fn doubling_refs_are_rejected() {
        let reason = cost_of(&definitions(60, json!(false), |next| json!({"anyOf": [next, next]}))).unwrap_err();
        assert!(reason.contains("to one value"), "{reason}");
    }

    #[test]
    fn cyclic_schemas_are_as_deep_as_their_number() {
        let list = json!({"properties": {"next": {"$ref": "#"}}});
        assert_eq!(cost_of(&list).unwrap().depth, 2, "each level applies to another value");
        let circle = json!({"definitions": {"a": {"allOf": [{"$ref": "#"}]}}, "$ref": "#/definitions/a"});
        assert!(cost_of(&circle).unwrap().depth >= 3);
    }
}
