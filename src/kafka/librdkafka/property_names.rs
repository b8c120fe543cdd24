//! The names of librdkafka's properties, to suggest one for a misspelt name.

use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

use rdkafka::bindings as rd;

/// The name that is most like `wrong`, if one is alike enough.
pub fn similar_property(wrong: &str) -> Option<String> {
    /// As alike as `acks` and `ack`.
    const ALIKE: f64 = 0.75;
    let wrong = wrong.to_ascii_lowercase();
    let names = property_names();
    let alike = names.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(&wrong, &name), name));
    let (likeness, name) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness >= ALIKE).then_some(name)
}

/// All names, aliases included; none if there is no memory for the list.
fn property_names() -> Vec<String> {
    let table = table();
    let columns = table.lines().filter_map(|line| line.split_once(" | "));
    columns.map(|(name, _)| name.trim_end()).filter(|name| *name != "Property").map(str::to_owned).collect()
}

/// The table that librdkafka generates CONFIGURATION.md from.
fn table() -> String {
    let (mut text, mut size): (*mut c_char, usize) = (null_mut(), 0);
    // SAFETY: both pointers are writable until the stream is closed.
    let stream = unsafe { libc::open_memstream(&mut text, &mut size) };
    if stream.is_null() {
        return String::new();
    }
    // SAFETY: the stream is open.
    unsafe { rd::rd_kafka_conf_properties_show(stream) };
    // SAFETY: the stream is open, and not used again. Closing it completes `text` and `size`.
    let closed: c_int = unsafe { libc::fclose(stream) };
    if closed != 0 || text.is_null() {
        return String::new();
    }
    // SAFETY: the stream has written `size` bytes to `text`.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) };
    let table = String::from_utf8_lossy(bytes).into_owned();
    // SAFETY: the stream has allocated `text` with malloc, for its user to free, and `bytes` is not
    // used again.
    unsafe { libc::free(text.cast()) };
    table
}

#[cfg(test)]
mod tests {
    use super::similar_property;

    #[test]
    fn misspelt_property_has_a_suggestion() {
        for (wrong, meant) in [
            ("bootstrapservers", "bootstrap.servers"),
            ("bootstrap.server", "bootstrap.servers"),
            ("sasl.usrname", "sasl.username"),
            ("security_protocol", "security.protocol"),
            ("Linger.MS", "linger.ms"),
            ("ack", "acks"),
            ("compression_typ", "compression.type"),
            ("metadata.brokers.list", "metadata.broker.list"),
        ] {
            assert_eq!(similar_property(wrong).as_deref(), Some(meant), "{wrong}");
        }
        for unlike in ["", "brokers", "timeout", "password", "key.serializer"] {
            assert_eq!(similar_property(unlike), None, "{unlike}");
        }
    }
}
