//! Components, as whoever makes a topic writes them, and metadata held against them. A line each: a schema, or behind a `!` a
//! validator's JSON; metadata; a selector's JSON; a serializer's.

use super::input::lines;
use crate::components::{Components, Provided, Registry};
use crate::error::{Error, Kind};

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
    // Whatever is wrong is not quoted at any length.
    assert!((10..4_000).contains(&error.message().len()), "{} bytes: {error}", error.message().len());
}

fn check(components: &Components, metadata: &str) {
    let kept = components.in_order().map(|(_, component)| component.json().to_owned());
    let again = Components::parse([Some(&kept[0]), Some(&kept[1]), Some(&kept[2])]).expect("it is read as it was kept");
    assert_eq!(again.in_order().map(|(_, component)| component.json().to_owned()), kept);
    serde_json::to_string(components).expect("components can be shown");

    let registry = Registry::default();
    let parts = match registry.make_parts(components) {
        Ok(parts) => parts,
        Err(error) => return check_error(&error, Kind::Component),
    };
    // What can be opened can be made, but for one thing. Making a schema a second time takes most of the time here.
    if validator_says(components, "format")
        && let Err(error) = registry.check_new(components)
    {
        check_error(&error, Kind::Component);
        assert!(error.message().contains("\"format\""), "{error}");
    }
    registry.missed(&parts).iter().for_each(|error| check_error(error, Kind::Component));
    parts.make_selector().map(drop).expect("the core has one or none");

    let Provided::By(validator) = &parts.validator else { return };
    let verdict = validator.validate(metadata, &[]);
    if let Err(error) = &verdict {
        check_error(error, Kind::InvalidMetadata);
        assert!(!error.message().ends_with(": "), "a reason is missing: {error}");
    }
    assert_eq!(validator.validate(metadata, &[]).is_ok(), verdict.is_ok(), "asked twice, it says the same");
}

fn validator_says(components: &Components, word: &str) -> bool {
    components.validator.json().contains(word)
}
