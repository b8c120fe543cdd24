//! Lets AWS' crates send their requests with the HTTP client of Octopus.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, marker};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use http::{Request, Response};

/// For requests for which AWS' crates set none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// In bytes. The responses are credentials.
const MAX_RESPONSE_SIZE: usize = 1024 * 1024;

/// Sends a request and waits for the response, whatever its status is.
pub type Send = Arc<dyn Fn(&Request<Vec<u8>>, Limits) -> Result<Response<Vec<u8>>, SendFailure> + marker::Send + Sync>;

pub struct Limits {
    pub connect_timeout: Duration,
    /// Of the whole request.
    pub timeout: Duration,
    /// In bytes, of the body.
    pub response_size: usize,
}

pub struct SendFailure {
    pub cause: Box<dyn StdError + marker::Send + Sync>,
    /// Whether the same request may succeed later.
    pub is_transient: bool,
}

/// A request blocks the thread, which is of this look-up alone.
pub fn client(send: Send, deadline: Instant) -> SharedHttpClient {
    http_client_fn(move |settings, _| SharedHttpConnector::new(Connector::new(settings, send.clone(), deadline)))
}

struct Connector {
    send: Send,
    connect_timeout: Duration,
    timeout: Duration,
    /// Of the whole look-up.
    deadline: Instant,
}

impl Connector {
    fn new(settings: &HttpConnectorSettings, send: Send, deadline: Instant) -> Self {
        let connect_timeout = settings.connect_timeout().unwrap_or(CONNECT_TIMEOUT);
        let timeout = settings.read_timeout().map_or(REQUEST_TIMEOUT, |timeout| connect_timeout + timeout);
        Connector { send, connect_timeout, timeout, deadline }
    }

    fn respond(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|cause| ConnectorError::user(cause.into()))?;
        let Some(body) = request.body().bytes().map(<[u8]>::to_vec) else {
            return Err(ConnectorError::user("the request's body is a stream".into()));
        };
        let limits = Limits {
            connect_timeout: self.connect_timeout,
            timeout: self.deadline.saturating_duration_since(Instant::now()).min(self.timeout),
            response_size: MAX_RESPONSE_SIZE,
        };
        let response = (self.send)(&request.map(|_| body), limits).map_err(|failure| {
            if failure.is_transient { ConnectorError::io(failure.cause) } else { ConnectorError::user(failure.cause) }
        })?;
        HttpResponse::try_from(response.map(Into::into)).map_err(|cause| ConnectorError::other(cause.into(), None))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.respond(request))
    }
}
