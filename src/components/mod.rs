//! Validator, serializer and partition selector: what a topic says it needs, and whether somebody provides it.

mod parts;
mod schema;
mod unfolding;

pub use parts::{
    DefaultSelector, Maker, PartitionSelector, Parts, Provided, Registry, Selector, Serializer, Validator,
};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result, shortened};
use crate::stack;

/// The three kinds of component, in the order of their records in the info topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Validator,
    Selector,
    Serializer,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Validator, Role::Selector, Role::Serializer];

    pub fn name(self) -> &'static str {
        match self {
            Role::Validator => "validator",
            Role::Selector => "partition selector",
            Role::Serializer => "serializer",
        }
    }

    /// The types whose part the core itself plays. Both serializers write the same bytes.
    fn built_in(self) -> &'static [&'static str] {
        match self {
            Role::Validator | Role::Serializer => &["default", "schema"],
            Role::Selector => &["default"],
        }
    }

    fn is_built_in(self, type_name: &str) -> bool {
        self.built_in().contains(&type_name)
    }
}

/// What one component of a topic was made from: its JSON as it was given.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Component {
    json: Box<RawValue>,
    #[serde(skip)]
    type_name: String,
}

impl Component {
    /// Reads `{"type": …, …}`; without a `"type"` it is `default`.
    pub fn parse(role: Role, json: &str) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Component::read(role, json))
    }

    fn read(role: Role, json: &str) -> Result<Self> {
        let refuse = |why: String| Error::new(Kind::Component, format!("the {}: {why}", role.name()));
        let value = crate::json::value(json).map_err(|why| refuse(format!("not JSON: {why}")))?;
        if !value.is_object() {
            return Err(refuse(format!(
                "expected an object such as {{\"type\":\"default\"}}, got {}",
                shortened(&value)
            )));
        }
        let type_name = match value.get("type") {
            None => "default".to_owned(),
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(refuse(format!("its \"type\" should be a string, got {}", shortened(other)))),
        };
        let json = RawValue::from_string(json.trim().to_owned()).map_err(|why| refuse(why.to_string()))?;
        Ok(Component { json, type_name })
    }

    fn default_one() -> Self {
        let json = serde_json::value::to_raw_value(&serde_json::json!({"type": "default"})).unwrap_or_default();
        Component { json, type_name: "default".to_owned() }
    }

    pub fn json(&self) -> &str {
        self.json.get()
    }

    pub fn is_default(&self) -> bool {
        self.type_name == "default"
    }
}

/// The components of one topic.
#[derive(Debug, Clone, Serialize)]
pub struct Components {
    pub validator: Component,
    pub selector: Component,
    pub serializer: Component,
}

impl Default for Components {
    fn default() -> Self {
        let one = Component::default_one();
        Components { validator: one.clone(), selector: one.clone(), serializer: one }
    }
}

impl Components {
    /// From their JSON texts in the order of [`Role::ALL`]; `None` is the default.
    pub fn parse(texts: [Option<&str>; 3]) -> Result<Self> {
        let part = |index: usize| match texts[index] {
            None => Ok(Component::default_one()),
            Some(json) => Component::parse(Role::ALL[index], json),
        };
        Ok(Components { validator: part(0)?, selector: part(1)?, serializer: part(2)? })
    }

    pub fn in_order(&self) -> [(Role, &Component); 3] {
        [(Role::Validator, &self.validator), (Role::Selector, &self.selector), (Role::Serializer, &self.serializer)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_without_a_type_is_default_and_is_kept_as_given() {
        let component = Component::parse(Role::Validator, "  {\"note\": 1.50}\n").unwrap();
        assert!(component.is_default());
        assert_eq!(component.json(), "{\"note\": 1.50}");
    }

    #[test]
    fn what_is_no_component_is_refused_by_name() {
        for (json, why) in [("3", "expected an object"), ("{", "not JSON"), (r#"{"type": 1}"#, "should be a string")] {
            let message = Component::parse(Role::Selector, json).unwrap_err().message().to_owned();
            assert!(message.starts_with("the partition selector: ") && message.contains(why), "{message}");
        }
        let long = format!("[{}]", "1,".repeat(10_000) + "1");
        let message = Component::parse(Role::Selector, &long).unwrap_err().message().to_owned();
        assert!(message.len() < 400, "what is wrong is not quoted at any length");
    }
}
