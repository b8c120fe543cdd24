//! HTTP requests, by libcurl: the topic service and AWS' endpoints. librdkafka uses libcurl for
//! OpenID, so the library contains one implementation of HTTP and one of TLS:
//! docs/decisions/0026-one-http-client.md.

mod name_lookup;
mod transfer;

use std::env;
use std::time::Duration;

use http::{Request, Response, Uri};

use crate::config::ProxySettings;
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

#[derive(Clone, PartialEq, Eq)]
pub enum Proxy {
    /// The one that the environment names, in libcurl's variables: `https_proxy`, `http_proxy`,
    /// `all_proxy` and `no_proxy`.
    Environment,
    /// The one of the option `proxy`.
    Given(ProxySettings),
    #[cfg_attr(not(any(feature = "aws", test)), expect(dead_code, reason = "AWS' sources use it"))]
    None,
}

impl Proxy {
    /// The proxy of the option, or else another one.
    pub fn given(settings: Option<&ProxySettings>, or_else: Proxy) -> Self {
        settings.cloned().map_or(or_else, Proxy::Given)
    }
}

/// Sends a request and returns the response, whatever its status is. Redirects are not followed.
/// The error is retriable if the same request may succeed later.
pub fn send(request: &Request<Vec<u8>>, options: &Options) -> Result<Response<Vec<u8>>> {
    let deadline = Deadline::after(options.timeout);
    let connect_deadline = Deadline::after(options.connect_timeout.min(options.timeout));
    let mut transfer = Transfer::new()?;
    let look_up = |host: &str, port| {
        let addresses = name_lookup::addresses(host, port, connect_deadline.remaining(options.connect_timeout))?;
        Ok::<_, Error>((host.to_owned(), port, addresses))
    };
    let (host, port) = host_and_port(request.uri())?;
    let mut looked_up = Vec::new();
    if !name_lookup::is_address(host) && !resolves_names(&options.proxy, host) {
        looked_up.push(look_up(host, port)?);
    }
    match &options.proxy {
        Proxy::Given(proxy) if proxy.is_used_for(host) => {
            if !name_lookup::is_address(&proxy.host) {
                let found = look_up(&proxy.host, proxy.port);
                looked_up.push(found.map_err(|error| error.context("connecting to the proxy (the option \"proxy\")"))?);
            }
            transfer.use_proxy(proxy)?;
        }
        Proxy::Given(_) | Proxy::None => transfer.disable_proxy()?,
        Proxy::Environment => {}
    }
    if !looked_up.is_empty() {
        transfer.set_addresses(&looked_up)?;
    }
    transfer.set_request(request)?;
    transfer.set_timeouts(connect_deadline.remaining(options.connect_timeout), deadline.remaining(options.timeout))?;
    transfer.trust_system_authorities()?;
    let response = transfer.perform(options.max_response_size);
    match &options.proxy {
        Proxy::Given(proxy) if proxy.is_used_for(host) => {
            response.map_err(|error| error.context(format_args!("through the proxy {proxy}")))
        }
        _ => response,
    }
}

/// Whether the proxy may be the one to resolve the name of this host.
fn resolves_names(proxy: &Proxy, host: &str) -> bool {
    // libcurl ignores HTTP_PROXY, which a CGI program takes from the client's request.
    const VARIABLES: [&str; 5] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"];
    match proxy {
        Proxy::Environment => VARIABLES.iter().any(|name| env::var_os(name).is_some()),
        Proxy::Given(proxy) => proxy.is_used_for(host) && proxy.protocol.resolves_names(),
        Proxy::None => false,
    }
}

fn host_and_port(url: &Uri) -> Result<(&str, u16)> {
    let (Some(host), Some(scheme)) = (url.host(), url.scheme_str()) else {
        return Err(Error::new(Kind::InvalidArgument, format!("{url} is not the URL of a web service")));
    };
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Ok((host, port))
}

#[cfg(test)]
mod tests;
