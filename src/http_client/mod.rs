//! HTTP requests, by libcurl: the topic service and AWS' endpoints. librdkafka uses libcurl for
//! OpenID, so the library contains one implementation of HTTP and one of TLS:
//! docs/decisions/0026-one-http-client.md.

mod name_lookup;
mod transfer;

use std::env;
use std::time::Duration;

use http::{Request, Response, Uri};

use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use transfer::Transfer;

pub struct Options {
    /// From the name look-up to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// From the name look-up to the last byte of the response.
    pub timeout: Duration,
    /// In bytes, of the body.
    pub max_response_size: usize,
    pub proxy: Proxy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// The one that the environment names, in libcurl's variables: `https_proxy`, `http_proxy`,
    /// `all_proxy` and `no_proxy`.
    Environment,
    None,
}

/// Sends a request and returns the response, whatever its status is. Redirects are not followed.
/// The error is retriable if the same request may succeed later.
pub fn send(request: &Request<Vec<u8>>, options: &Options) -> Result<Response<Vec<u8>>> {
    let deadline = Deadline::after(options.timeout);
    let connect_deadline = Deadline::after(options.connect_timeout.min(options.timeout));
    let mut transfer = Transfer::new()?;
    if !uses_proxy(options.proxy)
        && let Some((host, port)) = name_to_resolve(request.uri())?
    {
        let addresses = name_lookup::addresses(host, port, connect_deadline.remaining(options.connect_timeout))?;
        transfer.set_addresses(host, port, &addresses)?;
    }
    if options.proxy == Proxy::None {
        transfer.disable_proxy()?;
    }
    transfer.set_request(request)?;
    transfer.set_timeouts(connect_deadline.remaining(options.connect_timeout), deadline.remaining(options.timeout))?;
    transfer.trust_system_authorities()?;
    transfer.perform(options.max_response_size)
}

/// Whether the environment names a proxy, which then may be the one to resolve host names.
fn uses_proxy(proxy: Proxy) -> bool {
    // libcurl ignores HTTP_PROXY, which a CGI program takes from the client's request.
    const VARIABLES: [&str; 5] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"];
    proxy == Proxy::Environment && VARIABLES.iter().any(|name| env::var_os(name).is_some())
}

/// The host and port of the URL, unless the host is an address.
fn name_to_resolve(url: &Uri) -> Result<Option<(&str, u16)>> {
    let (Some(host), Some(scheme)) = (url.host(), url.scheme_str()) else {
        return Err(Error::new(Kind::InvalidArgument, format!("{url} is not the URL of a web service")));
    };
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Ok((!name_lookup::is_address(host)).then_some((host, port)))
}

#[cfg(test)]
mod tests;
