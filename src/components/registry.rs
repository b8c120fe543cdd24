//! Creates the instances of a topic's components: built-in ones, or ones that the host registered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::traits::{Selector, Serializer, Validator};
use super::{Component, Components, Role};
use crate::support::error::{Error, Kind, Result};

/// Creates an instance from the JSON of a component.
pub type Make<T> = Box<dyn Fn(&str) -> Result<T> + Send + Sync>;

/// Creates the components of one type that a host registered.
pub enum ComponentFactory {
    Validator(Make<Arc<dyn Validator>>),
    Selector(Make<Box<dyn Selector>>),
    Serializer(Make<Arc<dyn Serializer>>),
}

impl ComponentFactory {
    fn role(&self) -> Role {
        match self {
            ComponentFactory::Validator(_) => Role::Validator,
            ComponentFactory::Selector(_) => Role::Selector,
            ComponentFactory::Serializer(_) => Role::Serializer,
        }
    }
}

/// The implementation of a component.
pub enum Provided<T: ?Sized> {
    /// The library's own: a validator that accepts everything, or the serializer of the record
    /// format.
    BuiltIn,
    Custom(Arc<T>),
    /// A call that needs the component fails with this error.
    Missing(Error),
}

impl<T: ?Sized> Provided<T> {
    pub fn missing(&self) -> Option<&Error> {
        match self {
            Provided::Missing(error) => Some(error),
            _ => None,
        }
    }
}

/// Selects partitions for one producer.
pub enum PartitionSelector {
    Default,
    Custom(Box<dyn Selector>),
    Missing(Error),
}

/// The components of one opened topic.
pub struct ComponentInstances {
    pub validator: Provided<dyn Validator>,
    pub serializer: Provided<dyn Serializer>,
    selector: Component,
    /// `None` if the selector is built in or not registered.
    selector_factory: Option<Arc<ComponentFactory>>,
}

impl ComponentInstances {
    /// Creates a selector for one more producer.
    pub fn make_selector(&self) -> Result<PartitionSelector> {
        match self.selector_factory.as_deref() {
            Some(ComponentFactory::Selector(make)) => make(self.selector.json())
                .map(PartitionSelector::Custom)
                .map_err(|cause| creation_failed(Role::Selector, &self.selector, cause)),
            _ if Role::Selector.is_built_in(&self.selector.type_name) => Ok(PartitionSelector::Default),
            _ => Ok(PartitionSelector::Missing(missing_component(Role::Selector, &self.selector))),
        }
    }

    /// One error for each component that is missing.
    fn missing(&self) -> Vec<Error> {
        let selector = match &self.selector_factory {
            None if !Role::Selector.is_built_in(&self.selector.type_name) => {
                Some(missing_component(Role::Selector, &self.selector))
            }
            _ => None,
        };
        let others = [self.validator.missing().cloned(), self.serializer.missing().cloned()];
        others.into_iter().chain([selector]).flatten().collect()
    }
}

/// The component factories that the host has registered, by role and type.
#[derive(Default)]
pub struct Registry {
    factories: Mutex<HashMap<(Role, String), Arc<ComponentFactory>>>,
    /// The host runs all components that are not `default` itself, so none is created or missing
    /// here.
    host_owns_components: bool,
}

impl Registry {
    pub fn new(host_owns_components: bool) -> Self {
        Registry { factories: Mutex::default(), host_owns_components }
    }

    /// One error for each component that is missing, unless the host runs it itself.
    pub fn missing(&self, instances: &ComponentInstances) -> Vec<Error> {
        if self.host_owns_components { Vec::new() } else { instances.missing() }
    }

    pub fn register(&self, type_name: &str, factory: ComponentFactory) -> Result<()> {
        let role = factory.role();
        let reject = |reason: &str| {
            Err(Error::invalid(format!("registering a {} of the type {type_name:?}: {reason}", role.name())))
        };
        if type_name.is_empty() {
            return reject("the type has no name");
        }
        if role.is_built_in(type_name) {
            return reject("it is built in");
        }
        let key = (role, type_name.to_owned());
        let mut factories = self.factories.lock();
        if factories.contains_key(&key) {
            drop(factories);
            return reject("it is already registered");
        }
        factories.insert(key, Arc::new(factory));
        Ok(())
    }

    fn find(&self, role: Role, component: &Component) -> Option<Arc<ComponentFactory>> {
        self.factories.lock().get(&(role, component.type_name.clone())).cloned()
    }

    /// Creates the components of a topic. A component that can't be created is an error; a missing
    /// one is an error only when it is needed.
    pub fn instantiate(&self, components: &Components) -> Result<ComponentInstances> {
        Ok(ComponentInstances {
            validator: self.create_validator(&components.validator)?,
            serializer: self.create_serializer(&components.serializer)?,
            selector: components.selector.clone(),
            selector_factory: self.find(Role::Selector, &components.selector),
        })
    }

    /// Rejects a new topic whose components can't be created, or can't be opened by C++ Octopus.
    pub fn check_new(&self, components: &Components) -> Result<ComponentInstances> {
        super::schema_format::reject_format(&components.validator)?;
        #[cfg(not(feature = "schema"))]
        if components.validator.type_name == "schema" && !self.host_owns_components {
            // Whether others can open a topic with it is unknown.
            return Err(Error::missing_feature("validator", "validators of the type \"schema\"", "schema"));
        }
        let instances = self.instantiate(components)?;
        instances.make_selector()?;
        Ok(instances)
    }

    fn create_validator(&self, component: &Component) -> Result<Provided<dyn Validator>> {
        let role = Role::Validator;
        let failed = |cause| creation_failed(role, component, cause);
        match component.type_name.as_str() {
            "default" => Ok(Provided::BuiltIn),
            "schema" if !self.host_owns_components => schema_validator(component),
            _ => match self.find(role, component).as_deref() {
                Some(ComponentFactory::Validator(make)) => make(component.json()).map(Provided::Custom).map_err(failed),
                _ => Ok(Provided::Missing(missing_component(role, component))),
            },
        }
    }

    fn create_serializer(&self, component: &Component) -> Result<Provided<dyn Serializer>> {
        let role = Role::Serializer;
        if role.is_built_in(&component.type_name) {
            return Ok(Provided::BuiltIn);
        }
        match self.find(role, component).as_deref() {
            Some(ComponentFactory::Serializer(make)) => {
                make(component.json()).map(Provided::Custom).map_err(|cause| creation_failed(role, component, cause))
            }
            _ => Ok(Provided::Missing(missing_component(role, component))),
        }
    }
}

#[cfg(feature = "schema")]
fn schema_validator(component: &Component) -> Result<Provided<dyn Validator>> {
    match super::schema::SchemaValidator::make(component.json()) {
        Ok(validator) => Ok(Provided::Custom(Arc::new(validator))),
        Err(cause) => Err(creation_failed(Role::Validator, component, cause)),
    }
}

#[cfg(not(feature = "schema"))]
fn schema_validator(_: &Component) -> Result<Provided<dyn Validator>> {
    let reason = "the topic's validator has the type \"schema\", which this build does not have: build Octopus with the \
                  feature \"schema\", or push events that the host prepares itself";
    Ok(Provided::Missing(Error::new(Kind::Component, reason)))
}

fn missing_component(role: Role, component: &Component) -> Error {
    Error::new(
        Kind::Component,
        format!(
            "the topic's {} has the type {:?}, which is not available; built in: {}; a host can register others, or \
             push events that it prepares itself",
            role.name(),
            component.type_name,
            role.built_in().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
        ),
    )
}

fn creation_failed(role: Role, component: &Component, cause: Error) -> Error {
    Error::new(
        Kind::Component,
        format!("the {} of the type {:?} can't be created: {}", role.name(), component.type_name, cause.message()),
    )
}

/// The built-in selector: the requested partition modulo the number of partitions, else
/// round-robin.
#[derive(Debug, Default)]
pub struct DefaultSelector(AtomicU64);

impl DefaultSelector {
    pub fn select(&self, requested: Option<u64>, partitions: u32) -> u32 {
        if partitions == 1 {
            return 0; // avoids the atomic increment, which dominates the cost
        }
        let number = requested.unwrap_or_else(|| self.0.fetch_add(1, Ordering::Relaxed));
        (number % u64::from(partitions.max(1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct RejectsAll;
    impl Validator for RejectsAll {
        fn wants_data(&self) -> bool {
            false
        }
        fn validate(&self, _: &str, _: &[&[u8]]) -> Result<()> {
            Err(Error::invalid("rejects everything"))
        }
    }

    fn components(validator: &str) -> Components {
        Components::parse([Some(validator), None, None]).unwrap()
    }

    fn rejecting() -> ComponentFactory {
        ComponentFactory::Validator(Box::new(|_| Ok(Arc::new(RejectsAll))))
    }

    #[test]
    fn missing_component_is_named_and_affects_no_other() {
        let instances = Registry::default().instantiate(&components(r#"{"type": "custom"}"#)).unwrap();
        let missing = instances.missing();
        assert_eq!(missing.len(), 1);
        let message = missing[0].message();
        assert!(message.contains("validator") && message.contains("\"custom\"") && message.contains("\"schema\""));
        assert!(matches!(instances.make_selector(), Ok(PartitionSelector::Default)));
    }

    #[cfg(not(feature = "schema"))]
    #[test]
    fn schema_needs_its_feature() {
        let schema = components(r#"{"type": "schema", "schema": {}}"#);
        let error = Registry::default().check_new(&schema).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        let instances = Registry::default().instantiate(&schema).unwrap();
        for message in [error.message(), instances.missing()[0].message()] {
            assert!(message.contains("build Octopus with the feature \"schema\""), "{message}");
        }
    }

    #[test]
    fn registered_type_is_instantiated() {
        let registry = Registry::default();
        registry.register("custom", rejecting()).unwrap();
        let instances = registry.instantiate(&components(r#"{"type": "custom"}"#)).unwrap();
        let Provided::Custom(validator) = instances.validator else { panic!("not provided") };
        assert!(validator.validate("{}", &[]).is_err());
    }

    #[test]
    fn built_in_registered_or_unnamed_type_is_rejected() {
        let registry = Registry::default();
        registry.register("custom", rejecting()).unwrap();
        for (name, reason) in [("default", "built in"), ("schema", "built in"), ("custom", "already"), ("", "no name")]
        {
            let message = registry.register(name, rejecting()).unwrap_err().message().to_owned();
            assert!(message.contains(reason) && message.contains("validator"), "{message}");
        }
    }

    #[test]
    fn failed_creation_names_the_component() {
        let registry = Registry::default();
        registry.register("broken", ComponentFactory::Selector(Box::new(|_| Err(Error::invalid("no wheel"))))).unwrap();
        let components = Components::parse([None, Some(r#"{"type": "broken"}"#), None]).unwrap();
        let message = registry.check_new(&components).err().unwrap().message().to_owned();
        assert!(message.contains("partition selector") && message.contains("no wheel"), "{message}");
    }

    #[test]
    fn default_selector_uses_the_requested_partition_or_round_robin() {
        let selector = DefaultSelector::default();
        assert_eq!(selector.select(Some(7), 3), 1);
        assert_eq!([0; 4].map(|_| selector.select(None, 3)), [0, 1, 2, 0]);
        assert_eq!(selector.select(Some(u64::MAX), 1), 0);
    }
}
