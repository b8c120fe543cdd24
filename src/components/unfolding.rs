//! What a schema costs once its `$ref`s are followed: how deep the calls are that look at one value, and how many subschemas
//! see it. Both are unbounded in a small text - a chain of definitions, or definitions that name the next one twice - and
//! whoever writes a topic's schema must not be able to end or fill the processes that push to it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Subschemas within each other for one value; nobody writes so many by hand.
const DEEPEST: usize = 1_000;
/// Subschemas that see one value.
const MOST: u64 = 10_000;

/// Subschemas that look at the same value, counted from the schema that costs most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfolded {
    /// So many within each other.
    pub depth: usize,
    /// So many in all.
    pub size: u64,
}

/// What `schema` unfolds to; an error says what is too much.
pub fn unfold(schema: &Value) -> Result<Unfolded, String> {
    let mut names = HashMap::new();
    find_names(schema, &mut names);
    let mut unfolding = Unfolding { root: schema, names, known: HashMap::new(), open: HashSet::new(), may_loop: false };
    let mut most = Unfolded::default();
    unfolding.look_at_all(schema, &mut most)?;
    if unfolding.may_loop {
        // Where the validator goes round it stops at the second visit, so at most all are within each other.
        most.depth = unfolding.known.len();
    }
    if most.depth > DEEPEST {
        return Err(too_deep());
    }
    if most.size > MOST {
        return Err(format!(
            "its subschemas and $refs have one value looked at by {} schemas, and at most {MOST} may",
            most.size
        ));
    }
    Ok(most)
}

fn too_deep() -> String {
    format!("its subschemas and $refs lead more than {DEEPEST} deep for one value")
}

/// Schemas that are called something by `$id`.
fn find_names<'a>(value: &'a Value, names: &mut HashMap<&'a str, &'a Value>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(id)) = map.get("$id") {
                names.insert(id, value);
            }
            map.values().for_each(|value| find_names(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| find_names(value, names)),
        _ => {}
    }
}

struct Unfolding<'a> {
    root: &'a Value,
    names: HashMap<&'a str, &'a Value>,
    known: HashMap<*const Value, Unfolded>,
    /// Those that are being looked at.
    open: HashSet<*const Value>,
    /// Some lead back to themselves, or to nobody knows where.
    may_loop: bool,
}

impl<'a> Unfolding<'a> {
    /// Any object may be a schema that something leads to.
    fn look_at_all(&mut self, value: &'a Value, most: &mut Unfolded) -> Result<(), String> {
        match value {
            Value::Object(map) => {
                let found = self.look_at(value)?;
                *most = Unfolded { depth: most.depth.max(found.depth), size: most.size.max(found.size) };
                map.values().try_for_each(|value| self.look_at_all(value, most))
            }
            Value::Array(items) => items.iter().try_for_each(|value| self.look_at_all(value, most)),
            _ => Ok(()),
        }
    }

    fn look_at(&mut self, schema: &'a Value) -> Result<Unfolded, String> {
        if let Some(known) = self.known.get(&std::ptr::from_ref(schema)) {
            return Ok(*known);
        }
        if self.open.len() > DEEPEST {
            return Err(too_deep());
        }
        if !self.open.insert(schema) {
            self.may_loop = true;
            return Ok(Unfolded::default());
        }
        let mut all = Unfolded { depth: 1, size: 1 };
        for part in self.parts(schema) {
            let part = self.look_at(part)?;
            all = Unfolded { depth: all.depth.max(part.depth + 1), size: all.size.saturating_add(part.size) };
        }
        self.open.remove(&std::ptr::from_ref(schema));
        self.known.insert(schema, all);
        Ok(all)
    }

    /// The subschemas that see the same value as `schema`.
    fn parts(&mut self, schema: &'a Value) -> Vec<&'a Value> {
        let Some(keywords) = schema.as_object() else { return Vec::new() };
        if let Some(Value::String(place)) = keywords.get("$ref") {
            let found = self.find(place);
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

    fn find(&self, place: &str) -> Option<&'a Value> {
        match place.strip_prefix('#') {
            Some("") => Some(self.root),
            Some(pointer) if pointer.starts_with('/') => {
                let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
                self.root.pointer(&pointer)
            }
            _ => self.names.get(place).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Definitions of which each is made of the next one.
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
    fn what_a_schema_unfolds_to_is_counted_along_its_refs() {
        assert_eq!(unfold(&json!({})).unwrap(), Unfolded { depth: 1, size: 1 });
        let doubled = definitions(3, json!({}), |next| json!({"anyOf": [next, next]}));
        assert_eq!(unfold(&doubled).unwrap(), Unfolded { depth: 8, size: 30 });
        let elsewhere = json!({"properties": {"a": {"not": {"$ref": "#x"}}}, "definitions": {"b": {"$id": "#x"}}});
        assert_eq!(unfold(&elsewhere).unwrap(), Unfolded { depth: 3, size: 3 });
    }

    #[test]
    fn a_chain_that_no_stack_holds_is_refused() {
        for link in [|next| next, |next: Value| json!({"allOf": [next]})] {
            unfold(&definitions(400, json!({}), link)).unwrap();
            for count in [2_000, 20_000] {
                let why = unfold(&definitions(count, json!({}), link)).unwrap_err();
                assert!(why.contains("deep"), "{why}");
            }
        }
    }

    #[test]
    fn refs_that_double_are_refused_before_they_fill_memory() {
        let why = unfold(&definitions(60, json!(false), |next| json!({"anyOf": [next, next]}))).unwrap_err();
        assert!(why.contains("looked at by"), "{why}");
    }

    #[test]
    fn schemas_that_lead_back_to_themselves_are_as_deep_as_there_are_schemas() {
        let list = json!({"properties": {"next": {"$ref": "#"}}});
        assert_eq!(unfold(&list).unwrap().depth, 2, "each time it's another value");
        let circle = json!({"definitions": {"a": {"allOf": [{"$ref": "#"}]}}, "$ref": "#/definitions/a"});
        assert!(unfold(&circle).unwrap().depth >= 3);
    }
}
