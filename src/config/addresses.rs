//! The addresses in `bootstrap.servers`. librdkafka ignores one with an unknown protocol, and all
//! after it, with a line in its log; and it reads a port as far as there are digits.

use crate::support::error::{Error, Result};

/// librdkafka's protocols, which may stand before an address.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Checks the list `HOST:PORT,…`.
pub fn check_addresses(key: &str, list: &str) -> Result<()> {
    for address in list.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        if let Some(problem) = problem_of(address) {
            return Err(Error::configuration(key, format_args!("{address:?} {problem}; expected \"host:port\"")));
        }
    }
    Ok(())
}

fn problem_of(address: &str) -> Option<&'static str> {
    if address.contains(|c: char| c == ';' || c.is_whitespace()) {
        return Some("is no address; separate addresses by commas");
    }
    let rest = match address.split_once("://") {
        None => address,
        Some((protocol, rest)) if PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol)) => rest,
        Some(_) => return Some("has a protocol that is not one of Kafka's"),
    };
    // What looks like the path of an URL is ignored.
    let (host, port) = rest.split('/').next()?.rsplit_once(':')?;
    // An IPv6 address has colons, too; with a port it is in brackets.
    let has_port = !host.contains(':') || host.ends_with(']');
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (has_port && !is_port).then_some("has a wrong port")
}

#[cfg(test)]
mod tests {
    use super::check_addresses;

    #[test]
    fn address_that_librdkafka_would_ignore_is_rejected() {
        for list in [
            "localhost:9092",
            "localhost",
            "a:1,b:2, c:65535,",
            "SASL_SSL://broker-1.example:9096",
            "ssl://host:9093/",
            "[::1]:9092",
            "[::1]",
            "::1",
            "127.0.0.1:9092",
            // librdkafka uses these, too.
            ":9092",
            "localhost:9092/",
        ] {
            assert!(check_addresses("k", list).is_ok(), "{list}");
        }
        for (list, problem) in [
            ("http://localhost:9092", "\"http://localhost:9092\" has a protocol"),
            ("localhost:909Z", "\"localhost:909Z\" has a wrong port"),
            ("localhost:", "wrong port"),
            ("localhost:0", "wrong port"),
            ("localhost:65536", "wrong port"),
            ("localhost:+1", "wrong port"),
            ("good:1,bad:x", "\"bad:x\""),
            ("a:1;b:2", "separate addresses by commas"),
            ("a:1 b:2", "separate addresses by commas"),
        ] {
            let error = check_addresses("kafka.bootstrap.servers", list).unwrap_err();
            assert!(error.message().contains(problem), "{list}: {error}");
        }
    }
}
