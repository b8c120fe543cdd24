//! CONNECT of HTTP/1.1: RFC 9110, section 9.3.6, and the password by RFC 7617.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::handshake::{Protocol, Step};
use super::{host_and_port, target_failure};
use crate::config::ProxySettings;
use crate::support::error::shortened;

const END: &[u8] = b"\r\n\r\n";
/// Of a response's header, in bytes.
const MAX_HEADER: usize = 64 * 1024;

pub(super) struct HttpConnect {
    authorization: Option<String>,
    target: String,
    was_sent: bool,
}

impl HttpConnect {
    pub(super) fn new(settings: &ProxySettings, target: &str) -> Self {
        let authorization = settings
            .credentials
            .as_ref()
            .map(|given| STANDARD.encode(format!("{}:{}", given.user, given.password.reveal())));
        HttpConnect { authorization, target: target.to_owned(), was_sent: false }
    }

    fn request(&self) -> Result<Vec<u8>, String> {
        let (host, port) = host_and_port(&self.target)?;
        // A broker's address comes from other brokers, and without brackets.
        if !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the broker's address {:?} has characters that no request can have", self.target));
        }
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authorization = match &self.authorization {
            Some(encoded) => format!("Proxy-Authorization: Basic {encoded}\r\n"),
            None => String::new(),
        };
        Ok(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").into_bytes())
    }

    fn result(&self, header: &[u8]) -> Result<Step, String> {
        let header = String::from_utf8_lossy(header);
        let line = header.lines().next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' ')).map(|(_, status)| status);
        let code = status.and_then(|status| status.get(..3)?.parse::<u16>().ok());
        let (Some(status), Some(code)) = (status, code) else {
            return Err("it does not speak HTTP/1.1".to_owned());
        };
        match code {
            200..300 => Ok(Step::Done),
            // Tinyproxy has 401 for a wrong password.
            401 | 407 if self.authorization.is_some() => Err("it rejects the user or the password".to_owned()),
            401 | 407 => Err("it wants a user and a password".to_owned()),
            _ => Err(target_failure(&self.target, &shortened(&status))),
        }
    }
}

impl Protocol for HttpConnect {
    fn next(&mut self, received: &[u8]) -> Result<Step, String> {
        if !self.was_sent {
            self.was_sent = true;
            return Ok(Step::Exchange(self.request()?, END.len()));
        }
        if received.ends_with(END) {
            return self.result(received);
        }
        if received.len() > MAX_HEADER {
            return Err(format!("its response has a header of more than {MAX_HEADER} bytes"));
        }
        // As many bytes as the header has at least.
        let begun = (1..END.len()).rev().find(|length| received.ends_with(&END[..*length])).unwrap_or(0);
        Ok(Step::Receive(END.len() - begun))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;

    fn failure(url: &str, response: &str) -> String {
        run(url, "broker:9092", response.as_bytes(), 7).unwrap_err()
    }

    #[test]
    fn header_is_read_to_its_end_and_no_further() {
        for header in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\nC: \r\r\n\r\n",
            "HTTP/1.1 204 \r\r\n\r\n",
        ] {
            for at_once in [1, 2, 3, 5, 1000] {
                let (sent, rest) = run("http://p:1", "b:9", format!("{header}kafka").as_bytes(), at_once).unwrap();
                assert_eq!(String::from_utf8(sent).unwrap(), "CONNECT b:9 HTTP/1.1\r\nHost: b:9\r\n\r\n");
                assert_eq!(rest, b"kafka", "{header:?}, {at_once} at once");
            }
        }
    }

    #[test]
    fn target_is_one_word_with_brackets_around_an_ipv6_address() {
        for target in ["fd00::2:9093", "[fd00::2]:9093"] {
            let (sent, _) = run("http://p:1", target, b"HTTP/1.1 200 OK\r\n\r\n", 9).unwrap();
            assert!(String::from_utf8(sent).unwrap().starts_with("CONNECT [fd00::2]:9093 HTTP/1.1\r\n"), "{target}");
        }
        for target in ["a b:1", "a\r\nX: y:1", "a"] {
            assert!(run("http://p:1", target, b"", 9).is_err(), "{target}");
        }
    }

    #[test]
    fn password_is_sent_in_a_header() {
        let (sent, _) = run("http://al:secret@p:1", "b:9", b"HTTP/1.1 200 OK\r\n\r\n", 9).unwrap();
        assert!(String::from_utf8(sent).unwrap().contains("\r\nProxy-Authorization: Basic YWw6c2VjcmV0\r\n"));
    }

    #[test]
    fn failures_have_their_reason() {
        for (response, reason) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "broker:9092: 403 Forbidden"),
            ("HTTP/1.1 502 Bad Gateway\r\nX: y\r\n\r\nbody", "502 Bad Gateway"),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "rejects the user or the password"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP/1.1"),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "does not speak HTTP/1.1"),
            ("HTTP/1.1 \u{fc}\u{fc} OK\r\n\r\n", "does not speak HTTP/1.1"),
            ("\r\n\r\n", "does not speak HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\n", "closed the connection"),
            (&"x".repeat(70_000), "header of more than 65536 bytes"),
        ] {
            let error = failure("http://u:hunter2@p:1", response);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{reason}: {error}");
        }
        assert!(failure("http://p:1", "HTTP/1.1 407 X\r\n\r\n").contains("wants a user and a password"));
    }
}
