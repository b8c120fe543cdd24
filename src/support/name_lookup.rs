//! Resolves host names for the HTTP clients. Each look-up runs on its own thread, so that the
//! caller's timeout applies to it. The resolvers of ureq and tokio panic if the thread can't be
//! created; here that is an error.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::support::error::Result;
use crate::support::threads::spawn;

type Addresses = io::Result<Vec<SocketAddr>>;

/// Resolves `address` (a host and a port) and passes the result to `done`. A numeric host is
/// resolved on the calling thread.
fn resolve(address: String, done: impl FnOnce(Addresses) + Send + 'static) -> Result<()> {
    if let Ok(number) = address.parse::<SocketAddr>() {
        done(Ok(vec![number]));
        return Ok(());
    }
    spawn("octopus-lookup", move || done(address.to_socket_addrs().map(Iterator::collect)))
}

#[cfg(feature = "topic-service")]
pub use blocking::BlockingResolver;

#[cfg(feature = "topic-service")]
mod blocking {
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};

    use ureq::config::Config;
    use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
    use ureq::unversioned::transport::NextTimeout;

    /// The resolver for ureq.
    #[derive(Debug)]
    pub struct BlockingResolver;

    impl Resolver for BlockingResolver {
        fn resolve(
            &self,
            uri: &http::Uri,
            config: &Config,
            timeout: NextTimeout,
        ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
            /// The capacity of `ResolvedSocketAddrs`.
            const MAX_ADDRESSES: usize = 16;
            let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
                return Err(ureq::Error::BadUri(uri.to_string()));
            };
            let address = DefaultResolver::host_and_port(scheme, authority).ok_or(ureq::Error::HostNotFound)?;
            let (sender, receiver) = sync_channel(1);
            // After a timeout the receiver is gone, and the result is dropped.
            super::resolve(address, move |found| drop(sender.send(found)))
                .map_err(|error| ureq::Error::Other(Box::new(error)))?;
            let found = receiver.recv_timeout(*timeout.after).map_err(|missing| match missing {
                RecvTimeoutError::Timeout => ureq::Error::Timeout(timeout.reason),
                RecvTimeoutError::Disconnected => ureq::Error::HostNotFound,
            })??;
            let mut addresses = self.empty();
            for address in config.ip_family().keep_wanted(found.into_iter()).take(MAX_ADDRESSES) {
                addresses.push(address);
            }
            if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
        }
    }
}

#[cfg(feature = "aws")]
pub use asynchronous::AsyncResolver;

#[cfg(feature = "aws")]
mod asynchronous {
    use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
    use tokio::sync::oneshot;

    /// The resolver for AWS' HTTP client.
    #[derive(Debug, Clone)]
    pub struct AsyncResolver;

    impl ResolveDns for AsyncResolver {
        fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
            const ANY_PORT: &str = "0";
            let (sender, receiver) = oneshot::channel();
            // After a timeout the receiver is gone, and the result is dropped.
            let started = super::resolve(format!("{name}:{ANY_PORT}"), move |found| drop(sender.send(found)));
            DnsFuture::new(async move {
                started.map_err(ResolveDnsError::new)?;
                let found = receiver.await.map_err(ResolveDnsError::new)?.map_err(ResolveDnsError::new)?;
                Ok(found.iter().map(std::net::SocketAddr::ip).collect())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn numeric_host_is_resolved_on_the_calling_thread() {
        let (sender, receiver) = channel();
        resolve("[::1]:80".to_owned(), move |found| sender.send((thread::current().id(), found)).unwrap()).unwrap();
        let (by, found) = receiver.recv().unwrap();
        assert_eq!((by, found.unwrap()), (thread::current().id(), vec!["[::1]:80".parse().unwrap()]));
    }

    #[test]
    fn host_name_is_resolved_on_another_thread() {
        let (sender, receiver) = channel();
        resolve("localhost:80".to_owned(), move |found| sender.send((thread::current().id(), found)).unwrap()).unwrap();
        let (by, found) = receiver.recv().unwrap();
        assert_ne!(by, thread::current().id());
        assert!(found.unwrap().iter().all(|address| address.port() == 80 && address.ip().is_loopback()));
    }
}
