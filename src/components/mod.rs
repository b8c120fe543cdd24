//! Validator, serializer and partition selector: the components that a topic declares, and their
//! implementations.

mod registry;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "schema")]
mod schema_cost;
mod schema_format;
mod traits;

pub use registry::{ComponentFactory, ComponentInstances, DefaultSelector, PartitionSelector, Provided, Registry};
pub use traits::{Selector, Serializer, Validator};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::error::{Error, Kind, Result, shortened};
use crate::support::stack;

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

    /// The types that the library implements. Both serializers write the same bytes.
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

/// The declaration of one component of a topic: its JSON, unchanged.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Component {
    json: Box<RawValue>,
    #[serde(skip)]
    type_name: String,
}

impl Component {
    /// Reads `{"type": …, …}`. The type is `default` if it is absent.
    pub fn parse(role: Role, json: &str) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Component::read(role, json))
    }

    fn read(role: Role, json: &str) -> Result<Self> {
        let reject = |reason: String| Error::new(Kind::Component, format!("the {}: {reason}", role.name()));
        let value = crate::json::parse(json).map_err(|cause| reject(format!("not JSON: {cause}")))?;
        if !value.is_object() {
            return Err(reject(format!(
                "expected an object such as {{\"type\":\"default\"}}, got {}",
                shortened(&value)
            )));
        }
        let type_name = match value.get("type") {
            None => "default".to_owned(),
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(reject(format!("its \"type\" should be a string, got {}", shortened(other)))),
        };
        let json = RawValue::from_string(json.trim().to_owned()).map_err(|cause| reject(cause.to_string()))?;
        Ok(Component { json, type_name })
    }

    fn of_default_type() -> Self {
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
        let one = Component::of_default_type();
        Components { validator: one.clone(), selector: one.clone(), serializer: one }
    }
}

impl Components {
    /// Parses JSON texts in the order of [`Role::ALL`]; `None` is the default.
    pub fn parse(texts: [Option<&str>; 3]) -> Result<Self> {
        let component = |index: usize| match texts[index] {
            None => Ok(Component::of_default_type()),
            Some(json) => Component::parse(Role::ALL[index], json),
        };
        Ok(Components { validator: component(0)?, selector: component(1)?, serializer: component(2)? })
    }

    pub fn in_order(&self) -> [(Role, &Component); 3] {
        [(Role::Validator, &self.validator), (Role::Selector, &self.selector), (Role::Serializer, &self.serializer)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_without_a_type_is_default_and_kept_unchanged() {
        let component = Component::parse(Role::Validator, "  {\"note\": 1.50}\n").unwrap();
        assert!(component.is_default());
        assert_eq!(component.json(), "{\"note\": 1.50}");
    }

    #[test]
    fn invalid_component_is_rejected_by_its_role() {
        for (json, reason) in [("3", "expected an object"), ("{", "not JSON"), (r#"{"type": 1}"#, "should be a string")]
        {
            let message = Component::parse(Role::Selector, json).unwrap_err().message().to_owned();
            assert!(message.starts_with("the partition selector: ") && message.contains(reason), "{message}");
        }
        let long = format!("[{}]", "1,".repeat(10_000) + "1");
        let message = Component::parse(Role::Selector, &long).unwrap_err().message().to_owned();
        assert!(message.len() < 400, "the quoted value is not shortened: {message}");
    }
}
