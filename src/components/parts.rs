//! Who plays the parts that a topic's components ask for: the core itself, the host, or nobody here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::schema::SchemaValidator;
use super::{Component, Components, Role};
use crate::error::{Error, Kind, Result};

/// Decides which events may be pushed. Any thread, several at a time.
pub trait Validator: Send + Sync {
    /// Whether [`validate`](Self::validate) looks at the data; without, it is given none.
    fn wants_data(&self) -> bool;
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<()>;
}

/// Makes bytes of metadata, and metadata of bytes. Any thread, several at a time.
pub trait Serializer: Send + Sync {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>>;
    fn deserialize(&self, bytes: &[u8]) -> Result<String>;
}

/// Decides which partition an event goes to; may keep notes from one to the next.
pub trait Selector: Send {
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32>;
}

/// What a component's JSON is made into.
pub type Make<T> = Box<dyn Fn(&str) -> Result<T> + Send + Sync>;

/// What a host registered: how components of one type are made.
pub enum Maker {
    Validator(Make<Arc<dyn Validator>>),
    Selector(Make<Box<dyn Selector>>),
    Serializer(Make<Arc<dyn Serializer>>),
}

impl Maker {
    fn role(&self) -> Role {
        match self {
            Maker::Validator(_) => Role::Validator,
            Maker::Selector(_) => Role::Selector,
            Maker::Serializer(_) => Role::Serializer,
        }
    }
}

/// The one who plays a part.
pub enum Provided<T: ?Sized> {
    /// The core, by its own means: it accepts everything, or writes the format's own bytes.
    BuiltIn,
    By(Arc<T>),
    /// Whoever needs it gets this error.
    Nobody(Error),
}

impl<T: ?Sized> Provided<T> {
    pub fn missing(&self) -> Option<&Error> {
        match self {
            Provided::Nobody(error) => Some(error),
            _ => None,
        }
    }
}

/// Who selects partitions for one producer.
pub enum PartitionSelector {
    Default,
    By(Box<dyn Selector>),
    Nobody(Error),
}

/// The parts of one opened topic.
pub struct Parts {
    pub validator: Provided<dyn Validator>,
    pub serializer: Provided<dyn Serializer>,
    selector: Component,
    /// Absent when the core selects, or nobody here can.
    selector_maker: Option<Arc<Maker>>,
}

impl Parts {
    /// A selector for one more producer.
    pub fn make_selector(&self) -> Result<PartitionSelector> {
        match self.selector_maker.as_deref() {
            Some(Maker::Selector(make)) => make(self.selector.json())
                .map(PartitionSelector::By)
                .map_err(|why| cannot_be_made(Role::Selector, &self.selector, why)),
            _ if Role::Selector.is_built_in(&self.selector.type_name) => Ok(PartitionSelector::Default),
            _ => Ok(PartitionSelector::Nobody(nobody(Role::Selector, &self.selector))),
        }
    }

    /// What nobody here provides, as an error for each.
    fn missing(&self) -> Vec<Error> {
        let selector = match &self.selector_maker {
            None if !Role::Selector.is_built_in(&self.selector.type_name) => {
                Some(nobody(Role::Selector, &self.selector))
            }
            _ => None,
        };
        let others = [self.validator.missing().cloned(), self.serializer.missing().cloned()];
        others.into_iter().chain([selector]).flatten().collect()
    }
}

/// What the host provides, by role and type.
#[derive(Default)]
pub struct Registry {
    makers: Mutex<HashMap<(Role, String), Arc<Maker>>>,
    /// The host has components of its own kind for what is not `default`: none is made here, and none is missed.
    host_owns_components: bool,
}

impl Registry {
    pub fn new(host_owns_components: bool) -> Self {
        Registry { makers: Mutex::default(), host_owns_components }
    }

    /// What nobody provides and somebody should.
    pub fn missed(&self, parts: &Parts) -> Vec<Error> {
        if self.host_owns_components { Vec::new() } else { parts.missing() }
    }

    pub fn register(&self, type_name: &str, maker: Maker) -> Result<()> {
        let role = maker.role();
        let refuse =
            |why: &str| Err(Error::invalid(format!("registering a {} of the type {type_name:?}: {why}", role.name())));
        if type_name.is_empty() {
            return refuse("the type has no name");
        }
        if role.is_built_in(type_name) {
            return refuse("it is built in");
        }
        let key = (role, type_name.to_owned());
        let mut makers = self.makers.lock();
        if makers.contains_key(&key) {
            drop(makers);
            return refuse("it is registered already");
        }
        makers.insert(key, Arc::new(maker));
        Ok(())
    }

    fn find(&self, role: Role, component: &Component) -> Option<Arc<Maker>> {
        self.makers.lock().get(&(role, component.type_name.clone())).cloned()
    }

    /// Makes what a topic's components ask for. One that can't be made is an error; one that nobody provides is not,
    /// until it is needed.
    pub fn make_parts(&self, components: &Components) -> Result<Parts> {
        Ok(Parts {
            validator: self.make_validator(&components.validator)?,
            serializer: self.make_serializer(&components.serializer)?,
            selector: components.selector.clone(),
            selector_maker: self.find(Role::Selector, &components.selector),
        })
    }

    /// What a new topic must not have: components that can't be made, or that C++ readers fail on.
    pub fn check_new(&self, components: &Components) -> Result<()> {
        super::schema::refuse_format(&components.validator)?;
        self.make_parts(components)?.make_selector().map(drop)
    }

    fn make_validator(&self, component: &Component) -> Result<Provided<dyn Validator>> {
        let role = Role::Validator;
        let cannot = |why| cannot_be_made(role, component, why);
        match component.type_name.as_str() {
            "default" => Ok(Provided::BuiltIn),
            "schema" if !self.host_owns_components => {
                Ok(Provided::By(Arc::new(SchemaValidator::make(component.json()).map_err(cannot)?)))
            }
            _ => match self.find(role, component).as_deref() {
                Some(Maker::Validator(make)) => make(component.json()).map(Provided::By).map_err(cannot),
                _ => Ok(Provided::Nobody(nobody(role, component))),
            },
        }
    }

    fn make_serializer(&self, component: &Component) -> Result<Provided<dyn Serializer>> {
        let role = Role::Serializer;
        if role.is_built_in(&component.type_name) {
            return Ok(Provided::BuiltIn);
        }
        match self.find(role, component).as_deref() {
            Some(Maker::Serializer(make)) => {
                make(component.json()).map(Provided::By).map_err(|why| cannot_be_made(role, component, why))
            }
            _ => Ok(Provided::Nobody(nobody(role, component))),
        }
    }
}

fn nobody(role: Role, component: &Component) -> Error {
    Error::new(
        Kind::Component,
        format!(
            "the topic's {} has the type {:?}, which nobody provides here; built in: {}; a host can register others, or \
             push events that it prepares itself",
            role.name(),
            component.type_name,
            role.built_in().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
        ),
    )
}

fn cannot_be_made(role: Role, component: &Component, why: Error) -> Error {
    Error::new(
        Kind::Component,
        format!("the {} of the type {:?} can't be made: {}", role.name(), component.type_name, why.message()),
    )
}

/// The built-in selector: what was asked for modulo the number of partitions, else one after the other.
#[derive(Debug, Default)]
pub struct DefaultSelector(AtomicU64);

impl DefaultSelector {
    pub fn select(&self, requested: Option<u64>, partitions: u32) -> u32 {
        if partitions == 1 {
            return 0; // without counting, which is what costs here
        }
        let number = requested.unwrap_or_else(|| self.0.fetch_add(1, Ordering::Relaxed));
        (number % u64::from(partitions.max(1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Picky;
    impl Validator for Picky {
        fn wants_data(&self) -> bool {
            false
        }
        fn validate(&self, _: &str, _: &[&[u8]]) -> Result<()> {
            Err(Error::invalid("nothing pleases it"))
        }
    }

    fn components(validator: &str) -> Components {
        Components::parse([Some(validator), None, None]).unwrap()
    }

    fn picky() -> Maker {
        Maker::Validator(Box::new(|_| Ok(Arc::new(Picky))))
    }

    #[test]
    fn a_component_that_nobody_provides_is_named_and_makes_no_other_fail() {
        let parts = Registry::default().make_parts(&components(r#"{"type": "picky"}"#)).unwrap();
        let missing = parts.missing();
        assert_eq!(missing.len(), 1);
        let message = missing[0].message();
        assert!(message.contains("validator") && message.contains("\"picky\"") && message.contains("\"schema\""));
        assert!(matches!(parts.make_selector(), Ok(PartitionSelector::Default)));
    }

    #[test]
    fn what_is_registered_is_made_from_then_on() {
        let registry = Registry::default();
        registry.register("picky", picky()).unwrap();
        let parts = registry.make_parts(&components(r#"{"type": "picky"}"#)).unwrap();
        let Provided::By(validator) = parts.validator else { panic!("not provided") };
        assert!(validator.validate("{}", &[]).is_err());
    }

    #[test]
    fn what_is_built_in_or_registered_already_or_has_no_name_is_not_registered() {
        let registry = Registry::default();
        registry.register("picky", picky()).unwrap();
        for (name, why) in [("default", "built in"), ("schema", "built in"), ("picky", "already"), ("", "no name")] {
            let message = registry.register(name, picky()).unwrap_err().message().to_owned();
            assert!(message.contains(why) && message.contains("validator"), "{message}");
        }
    }

    #[test]
    fn a_component_that_cannot_be_made_is_an_error_that_names_it() {
        let registry = Registry::default();
        registry.register("broken", Maker::Selector(Box::new(|_| Err(Error::invalid("no wheel"))))).unwrap();
        let components = Components::parse([None, Some(r#"{"type": "broken"}"#), None]).unwrap();
        let message = registry.check_new(&components).unwrap_err().message().to_owned();
        assert!(message.contains("partition selector") && message.contains("no wheel"), "{message}");
    }

    #[test]
    fn the_default_selector_takes_the_requested_partition_modulo_their_number_or_goes_round() {
        let selector = DefaultSelector::default();
        assert_eq!(selector.select(Some(7), 3), 1);
        assert_eq!([0; 4].map(|_| selector.select(None, 3)), [0, 1, 2, 0]);
        assert_eq!(selector.select(Some(u64::MAX), 1), 0);
    }
}
