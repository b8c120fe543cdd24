//! What Octopus adds to librdkafka's clients.

use std::sync::Arc;

#[cfg(all(feature = "gssapi", feature = "patched"))]
use super::kerberos::KerberosOfClient;
use super::proxy::Proxy;

/// What Octopus adds to a client, which keeps it.
#[derive(Default, Clone)]
pub struct Extensions {
    pub proxy: Option<Arc<Proxy>>,
    #[cfg(all(feature = "gssapi", feature = "patched"))]
    pub kerberos: Option<Arc<KerberosOfClient>>,
}
