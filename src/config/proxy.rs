//! `proxy`: the proxy through which all connections go, but those to this machine.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::properties::MASK;
use super::secret::Secret;
use super::value::as_text;
use crate::support::error::{Error, Result};

pub(super) const KEY: &str = "proxy";
const EXPECTED: &str = "expected \"socks5h://host:port\", \"socks5://host:port\" or \"http://host:port\", with \
                        user:password@ before the host if the proxy asks for them";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// SOCKS 5 (RFC 1928). This machine resolves the names of hosts.
    Socks5,
    /// SOCKS 5. The proxy resolves the names of hosts.
    Socks5h,
    /// CONNECT of HTTP/1.1 (RFC 9110, 9.3.6). The proxy resolves the names of hosts.
    Http,
}

/// A proxy. [`Display`](fmt::Display) shows its URL without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySettings {
    pub protocol: ProxyProtocol,
    /// A name or an address; one of IPv6 in brackets.
    pub host: String,
    pub port: u16,
    pub credentials: Option<ProxyCredentials>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyCredentials {
    pub user: String,
    /// May be empty.
    pub password: Secret,
}

impl ProxyProtocol {
    const ALL: [Self; 3] = [ProxyProtocol::Socks5, ProxyProtocol::Socks5h, ProxyProtocol::Http];

    fn name(self) -> &'static str {
        match self {
            ProxyProtocol::Socks5 => "socks5",
            ProxyProtocol::Socks5h => "socks5h",
            ProxyProtocol::Http => "http",
        }
    }

    pub fn resolves_names(self) -> bool {
        self != ProxyProtocol::Socks5
    }
}

impl ProxySettings {
    /// For libcurl: the hosts that [`is_used_for`](Self::is_used_for) excludes.
    pub const DIRECT_HOSTS: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,fd00:ec2::/32";
    /// Of user and password with SOCKS (RFC 1929).
    const MAX_SOCKS_CREDENTIAL: usize = 255;

    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let url = as_text(KEY, value)?;
        // No error quotes the URL, which may contain a password.
        let invalid = |reason: fmt::Arguments| Error::configuration(KEY, format_args!("{reason}; {EXPECTED}"));
        let Some((scheme, rest)) = url.split_once("://") else { return Err(invalid(format_args!("has no protocol"))) };
        let protocol = ProxyProtocol::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme));
        let protocol = protocol.ok_or_else(|| match scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => invalid(format_args!("{scheme:?} is no protocol of a proxy")),
            false => invalid(format_args!("what is before :// is no protocol of a proxy")),
        })?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // A password with these characters has them in another form.
        if authority.contains(['/', '?', '#']) {
            return Err(invalid(format_args!("has more than a host and a port; in a password, write / as %2F")));
        }
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (host, port) = match address.rsplit_once(':') {
            // The colon is one of an IPv6 address.
            Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (address, None),
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => return Err(invalid(format_args!("has no port"))),
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(invalid(format_args!("has a wrong port"))),
        };
        if !is_host(host) {
            return Err(invalid(format_args!("what is before the port is no host")));
        }
        let credentials = credentials.map(|text| ProxyCredentials::parse(text, protocol)).transpose();
        let credentials = credentials.map_err(|reason| invalid(format_args!("{reason}")))?;
        Ok(ProxySettings { protocol, host: host.to_owned(), port, credentials })
    }

    /// Whether connections to this host go through the proxy: not those to this machine, nor to
    /// services of the link, such as the metadata services of clouds. A name is not resolved.
    pub fn is_used_for(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        // Behind `%` is the interface of a link-local address.
        let host = host.split('%').next().unwrap_or(host);
        match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_link_local(),
            Ok(IpAddr::V6(address)) => {
                !address.is_loopback() && !address.is_unicast_link_local() && !is_metadata_service(address)
            }
            Err(_) => {
                let host = host.to_ascii_lowercase();
                host != "localhost" && !host.ends_with(".localhost")
            }
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The URL with user and password.
    pub fn url(&self) -> Secret {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let credentials = match &self.credentials {
            Some(given) => format!("{}:{}@", encoded(&given.user), encoded(given.password.reveal())),
            None => String::new(),
        };
        Secret::new(format!("{}://{credentials}{}", self.protocol.name(), self.address()))
    }
}

impl ProxyCredentials {
    fn parse(text: &str, protocol: ProxyProtocol) -> std::result::Result<Self, &'static str> {
        let decoded =
            |text| percent_decode_str(text).decode_utf8().map_err(|_| "has a user or password that is not UTF-8");
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let (user, password) = (decoded(user)?, decoded(password)?);
        let is_too_long = |text: &str| text.len() > ProxySettings::MAX_SOCKS_CREDENTIAL;
        match protocol {
            _ if user.is_empty() => Err("has an empty user"),
            _ if user.contains('\0') || password.contains('\0') => Err("has a user or password with a NUL character"),
            ProxyProtocol::Http if user.contains(':') => Err("has a user with a colon, which HTTP doesn't allow"),
            ProxyProtocol::Socks5 | ProxyProtocol::Socks5h if is_too_long(&user) || is_too_long(&password) => {
                Err("has a user or password of more than 255 bytes, which SOCKS doesn't allow")
            }
            _ => Ok(ProxyCredentials { user: user.into_owned(), password: Secret::new(password) }),
        }
    }
}

/// The one that Amazon's machines reach by this network only.
fn is_metadata_service(address: Ipv6Addr) -> bool {
    address.segments()[..2] == [0xfd00, 0x0ec2]
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(address) => address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

impl fmt::Display for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.protocol.name(), self.host, self.port)
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For descriptions.
impl Serialize for ProxySettings {
    fn serialize<S: Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        let credentials = if self.credentials.is_some() { format!("{MASK}@") } else { String::new() };
        out.collect_str(&format_args!("{}://{credentials}{}", self.protocol.name(), self.address()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(url: &str) -> Result<ProxySettings> {
        ProxySettings::from_json(&json!(url))
    }

    #[test]
    fn url_has_protocol_credentials_host_and_port() {
        let proxy = parsed("socks5h://al%40ice:p%2Fss:w%3Ard@gate.example:1080/").unwrap();
        assert_eq!(proxy.to_string(), "socks5h://gate.example:1080");
        let credentials = proxy.credentials.as_ref().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("al@ice", "p/ss:w:rd"));
        assert_eq!(proxy.url().reveal(), "socks5h://al%40ice:p%2Fss%3Aw%3Ard@gate.example:1080");
        assert_eq!(parsed("HTTP://[fd00::1]:3128").unwrap().address(), "[fd00::1]:3128");
        assert_eq!(parsed("socks5://u@10.0.0.1:1").unwrap().credentials.unwrap().password.reveal(), "");
    }

    #[test]
    fn invalid_url_is_rejected_without_its_password() {
        for (url, reason) in [
            ("gate.example:1080", "no protocol"),
            ("https://gate:1", "\"https\" is no protocol of a proxy"),
            ("socks4://gate:1", "is no protocol of a proxy"),
            ("http://user:hunter2@gate", "has no port"),
            ("http://[::1]", "has no port"),
            ("http://gate:", "wrong port"),
            ("http://gate:0", "wrong port"),
            ("http://gate:70000", "wrong port"),
            ("http://:80", "is no host"),
            ("http://user:hunter2:gate:80", "is no host"),
            ("user:hunter2@http://gate:80", "is no protocol of a proxy"),
            ("http://a b:80", "is no host"),
            ("http://[::g]:80", "is no host"),
            ("http://user:hun/ter2@gate:80", "write / as %2F"),
            ("http://gate:80/path", "more than a host and a port"),
            ("http://us%3Aer:hunter2@gate:80", "colon"),
            ("http://:hunter2@gate:80", "empty user"),
            ("http://u:hunter2%00@gate:80", "NUL"),
            ("socks5://u:hunter2%ff@gate:80", "not UTF-8"),
            (&format!("socks5h://u:hunter2{}@gate:80", "x".repeat(250)), "255 bytes"),
        ] {
            let error = parsed(url).unwrap_err().message().to_owned();
            assert!(error.starts_with("configuration: proxy: ") && error.contains(reason), "{url}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
    }

    #[test]
    fn password_is_in_no_description() {
        let proxy = parsed("http://user:hunter2@gate:80").unwrap();
        let shown = format!("{proxy} {proxy:?} {:?} {}", proxy.credentials, serde_json::to_string(&proxy).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains(MASK), "{shown}");
    }

    #[test]
    fn this_machine_and_its_link_are_reached_directly() {
        let proxy = parsed("http://gate:80").unwrap();
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "[fe80::1]",
            "[fe80::1%eth0]",
            "fd00:ec2::254",
        ] {
            assert!(!proxy.is_used_for(host), "{host}");
        }
        for host in ["broker", "localhost.example", "10.0.0.1", "128.0.0.1", "[fd00::1]", "mylocalhost"] {
            assert!(proxy.is_used_for(host), "{host}");
        }
    }
}
