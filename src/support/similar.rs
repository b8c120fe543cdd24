//! Suggestions for misspelt names.

/// The name that is most like `wrong`, if one is alike enough.
pub fn similar<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// As alike as `acks` and `ack`.
    const ALIKE: f64 = 0.75;
    let wrong = wrong.to_ascii_lowercase();
    let alike = names.into_iter().map(|name| (likeness(&wrong, &name.to_ascii_lowercase()), name));
    let (likeness, name) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness >= ALIKE).then_some(name)
}

/// From 0 to 1. The order of words does not count: Kafka calls a topic's limit `max.message.bytes`
/// and a client's `message.max.bytes`.
fn likeness(one: &str, other: &str) -> f64 {
    let words = |name: &str| {
        let mut words: Vec<String> = name.split(['.', '_', '-']).map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    if words(one) == words(other) { 1.0 } else { strsim::normalized_damerau_levenshtein(one, other) }
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn similar_name_is_found_whatever_its_order_and_case() {
        let names = ["message.max.bytes", "kafka", "acks"];
        for (wrong, meant) in [
            ("max.message.bytes", "message.max.bytes"),
            ("message_max_bytes", "message.max.bytes"),
            ("Kafka", "kafka"),
            ("ack", "acks"),
        ] {
            assert_eq!(similar(wrong, names), Some(meant), "{wrong}");
        }
        assert_eq!(similar("brokers", names), None);
        assert_eq!(similar("acks", []), None);
    }
}
