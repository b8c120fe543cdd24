//! SOCKS 5: RFC 1928, and user and password by RFC 1929.

use std::net::IpAddr;

use super::handshake::{Protocol, Step};
use super::{host_and_port, target_failure};
use crate::config::{ProxyCredentials, ProxySettings};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const BY_PASSWORD: u8 = 2;
const NONE_ACCEPTED: u8 = 0xff;
/// The version of the messages of RFC 1929, and their status of success.
const PASSWORD_VERSION: u8 = 1;
const SUCCESS: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

pub(super) struct Socks {
    credentials: Option<ProxyCredentials>,
    target: String,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    MethodChosen,
    PasswordChecked,
    /// Version and result of the reply.
    Replied,
    /// The reply up to the first byte of the address.
    AddressBegins,
    AddressEnds,
}

impl Socks {
    pub(super) fn new(settings: &ProxySettings, target: &str) -> Self {
        Socks { credentials: settings.credentials.clone(), target: target.to_owned(), state: State::Start }
    }

    fn password(&self) -> Result<Step, String> {
        let Some(given) = &self.credentials else {
            return Err("it wants a user and a password".to_owned());
        };
        let (user, password) = (given.user.as_bytes(), given.password.reveal().as_bytes());
        let message = [&[PASSWORD_VERSION, user.len() as u8], user, &[password.len() as u8], password].concat();
        Ok(Step::Exchange(message, 2))
    }

    fn request(&self) -> Result<Step, String> {
        let (host, port) = host_and_port(&self.target)?;
        let address = match host.parse() {
            Ok(IpAddr::V4(address)) => [&[IPV4][..], &address.octets()].concat(),
            Ok(IpAddr::V6(address)) => [&[IPV6][..], &address.octets()].concat(),
            Err(_) => {
                let length = u8::try_from(host.len());
                let length = length.map_err(|_| format!("the name of the broker {host} is longer than 255 bytes"))?;
                [&[NAME, length], host.as_bytes()].concat()
            }
        };
        let message = [&[VERSION, CONNECT, 0], &address[..], &port.to_be_bytes()].concat();
        Ok(Step::Exchange(message, 2))
    }

    fn enter(&mut self, state: State, step: Step) -> Step {
        self.state = state;
        step
    }
}

impl Protocol for Socks {
    fn next(&mut self, received: &[u8]) -> Result<Step, String> {
        match (self.state, received) {
            (State::Start, _) => {
                let methods: &[u8] =
                    if self.credentials.is_some() { &[NO_AUTHENTICATION, BY_PASSWORD] } else { &[NO_AUTHENTICATION] };
                let message = [&[VERSION, methods.len() as u8], methods].concat();
                Ok(self.enter(State::MethodChosen, Step::Exchange(message, 2)))
            }
            (State::MethodChosen | State::Replied, [version, _]) if *version != VERSION => {
                Err("it does not speak SOCKS 5".to_owned())
            }
            (State::MethodChosen, [_, NO_AUTHENTICATION]) => {
                let request = self.request()?;
                Ok(self.enter(State::Replied, request))
            }
            (State::MethodChosen, [_, BY_PASSWORD]) => {
                let password = self.password()?;
                Ok(self.enter(State::PasswordChecked, password))
            }
            (State::MethodChosen, [_, NONE_ACCEPTED]) if self.credentials.is_none() => self.password(),
            (State::MethodChosen, _) => {
                Err("it accepts neither a password nor none; Octopus has no other authentication".to_owned())
            }
            (State::PasswordChecked, [_, SUCCESS]) => {
                let request = self.request()?;
                Ok(self.enter(State::Replied, request))
            }
            (State::PasswordChecked, _) => Err("it rejects the user or the password".to_owned()),
            (State::Replied, [_, SUCCESS]) => Ok(self.enter(State::AddressBegins, Step::Receive(3))),
            (State::Replied, [_, code]) => Err(target_failure(&self.target, &reason(*code))),
            (State::AddressBegins, [_, _, _, kind, first]) => {
                // The port follows.
                let rest = match *kind {
                    IPV4 => 4 - 1,
                    IPV6 => 16 - 1,
                    NAME => usize::from(*first),
                    _ => return Err(format!("its reply has an unknown kind of address, {kind}")),
                };
                Ok(self.enter(State::AddressEnds, Step::Receive(rest + 2)))
            }
            (State::AddressEnds, _) => Ok(Step::Done),
            // Each step receives as many bytes as the next one takes.
            (State::Replied | State::AddressBegins, _) => Err("its reply is too short".to_owned()),
        }
    }
}

/// RFC 1928, section 6.
fn reason(code: u8) -> String {
    let words = match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable, or its name is unknown",
        5 => "connection refused",
        6 => "timed out",
        7 => "it does not connect",
        8 => "kind of address not supported",
        code => return format!("failure {code}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;

    const REPLY: [u8; 10] = [5, 0, 0, 1, 10, 0, 0, 1, 0, 80];

    fn sent(url: &str, target: &str, responses: &[u8]) -> Vec<u8> {
        let results: Vec<_> = [1, 3, 1000].map(|at_once| run(url, target, responses, at_once).unwrap()).into();
        assert!(results.iter().all(|result| *result == results[0] && result.1 == b"kafka"), "{results:?}");
        results[0].0.clone()
    }

    fn failure(url: &str, responses: &[u8]) -> String {
        run(url, "broker:9092", responses, 2).unwrap_err()
    }

    #[test]
    fn broker_is_requested_by_name_or_address() {
        let responses = [&[5, 0][..], &REPLY, b"kafka"].concat();
        let by_name = sent("socks5h://p:1", "broker:9092", &responses);
        assert_eq!(by_name, [&[5, 1, 0, 5, 1, 0, 3, 6][..], b"broker", &[0x23, 0x84]].concat());
        let by_address = sent("socks5://p:1", "10.1.2.3:9092", &responses);
        assert_eq!(by_address, [5, 1, 0, 5, 1, 0, 1, 10, 1, 2, 3, 0x23, 0x84]);
        let by_ipv6 = sent("socks5h://p:1", "[fd00::2]:1", &responses);
        assert_eq!(by_ipv6[6..], [&[4, 0xfd][..], &[0; 14], &[2, 0, 1]].concat());
    }

    #[test]
    fn reply_with_any_kind_of_address_is_read_to_its_end() {
        for address in [&[1, 9, 9, 9, 9][..], &[4; 17], b"\x03\x05proxy", b"\x03\0"] {
            sent("socks5h://p:1", "b:1", &[&[5, 0, 5, 0, 0], address, &[1, 1], b"kafka"].concat());
        }
        assert!(failure("socks5h://p:1", &[5, 0, 5, 0, 0, 9, 0, 0]).contains("unknown kind of address, 9"));
    }

    #[test]
    fn password_is_sent_if_the_proxy_asks() {
        let responses = [&[5, 2, 1, 0][..], &REPLY, b"kafka"].concat();
        let bytes = sent("socks5h://al:secret@p:1", "b:1", &responses);
        assert_eq!(bytes[..15], [&[5, 2, 0, 2, 1, 2][..], b"al", &[6], b"secret"].concat());
        let without = sent("socks5h://al:secret@p:1", "b:1", &[&[5, 0][..], &REPLY, b"kafka"].concat());
        assert!(!without.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn failures_have_their_reason() {
        for (responses, reason) in [
            (&[5, 2, 1, 1][..], "rejects the user or the password"),
            (&[5, 0, 5, 5, 0, 1], "broker:9092: connection refused"),
            (&[5, 0, 5, 2], "not allowed by its rules"),
            (&[5, 0, 5, 77], "failure 77"),
            (&[5, 0xff], "accepts neither"),
            (b"HTTP/1.1 400", "does not speak SOCKS 5"),
            (&[5, 0, 4, 0], "does not speak SOCKS 5"),
            (&[5], "closed the connection"),
            (&[], "closed the connection"),
        ] {
            let error = failure("socks5h://u:hunter2@p:1", responses);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{responses:?}: {error}");
        }
        for responses in [[5, 2], [5, 0xff]] {
            assert!(failure("socks5h://p:1", &responses).contains("wants a user and a password"));
        }
    }
}
