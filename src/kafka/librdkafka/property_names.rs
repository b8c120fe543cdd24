//! The names of librdkafka's properties and their types.

use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

use rdkafka::bindings as rd;

use crate::support::similar::similar;

/// The property whose name is most like `wrong`, if one is alike enough.
pub fn similar_property(wrong: &str) -> Option<String> {
    let names = property_names();
    similar(wrong, names.iter().map(String::as_str)).map(str::to_owned)
}

/// Whether the property may have a fraction.
pub fn is_float(name: &str) -> bool {
    let table = table();
    let line = table.lines().find(|line| line.split(" | ").next().is_some_and(|first| first.trim_end() == name));
    line.is_some_and(|line| line.contains("*Type: float*"))
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
            ("max.message.bytes", "message.max.bytes"),
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
