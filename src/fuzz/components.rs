//! Fuzzes the components of a topic, and metadata that they validate. The input has four lines: a
//! schema, or `!` and the JSON of a validator; metadata; the JSON of a selector; the JSON of a
//! serializer.

use super::input::lines;
use crate::components::{Components, Provided, Registry};
use crate::support::error::{Error, Kind};

pub fn components(input: &[u8]) {
    let mut lines = lines(input);
    let mut line = || lines.next().unwrap_or_default();
    let validator = match line() {
        whole if whole.starts_with('!') => whole[1..].to_owned(),
        schema => format!(r#"{{"type":"schema","schema":{schema}}}"#),
    };
    let metadata = line();
    let [selector, serializer] = [line(), line()];
    let optional = |text| Some(text).filter(|text: &&str| !text.is_empty());
    match Components::parse([Some(&validator), optional(&selector), optional(&serializer)]) {
        Ok(components) => check(&components, &metadata),
        Err(error) => check_error(&error, Kind::Component),
    }
}

fn check_error(error: &Error, kind: Kind) {
    assert_eq!(error.kind(), kind, "{error}");
    // Errors shorten the values that they quote.
    assert!((10..4_000).contains(&error.message().len()), "{} bytes: {error}", error.message().len());
}

fn check(components: &Components, metadata: &str) {
    let kept = components.in_order().map(|(_, component)| component.json().to_owned());
    let again =
        Components::parse([Some(&kept[0]), Some(&kept[1]), Some(&kept[2])]).expect("the kept JSON is parsed again");
    assert_eq!(again.in_order().map(|(_, component)| component.json().to_owned()), kept);
    serde_json::to_string(components).expect("components are serialized");

    let registry = Registry::default();
    let instances = match registry.instantiate(components) {
        Ok(instances) => instances,
        Err(error) => return check_error(&error, Kind::Component),
    };
    // A topic that can be opened can be created, unless its schema uses `format`. Checked only
    // then, since compiling the schema again takes most of the time here.
    if validator_contains(components, "format")
        && let Err(error) = registry.check_new(components)
    {
        check_error(&error, Kind::Component);
        assert!(error.message().contains("\"format\""), "{error}");
    }
    registry.missing(&instances).iter().for_each(|error| check_error(error, Kind::Component));
    instances.make_selector().map(drop).expect("a built-in or missing selector");

    let Provided::Custom(validator) = &instances.validator else { return };
    let verdict = validator.validate(metadata, &[]);
    if let Err(error) = &verdict {
        check_error(error, Kind::InvalidMetadata);
        assert!(!error.message().ends_with(": "), "the error has no reason: {error}");
    }
    assert_eq!(validator.validate(metadata, &[]).is_ok(), verdict.is_ok(), "the second result differs");
}

fn validator_contains(components: &Components, word: &str) -> bool {
    components.validator.json().contains(word)
}
