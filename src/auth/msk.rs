//! Creates tokens for the IAM access control of Amazon MSK. A token is a presigned HTTP request;
//! the broker sends it to AWS to learn who signed it. The format is that of AWS' library
//! aws-msk-iam-sasl-signer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::AskForKey;
use super::credentials::CachedCredentials;
use crate::config::{MskSettings, ProxySettings};
use crate::support::error::{Error, Kind, Result};
use crate::support::token::{Token, TokenSource};

const SERVICE: &str = "kafka-cluster";
/// Inserted into the signed URL without escaping, so it has unreserved characters and '%' only.
const USER_AGENT: &str = concat!("octopus%2F", env!("CARGO_PKG_VERSION"));

/// How long brokers may reject a new access key, which AWS takes time to propagate.
const NEW_KEY_GRACE: Duration = Duration::from_secs(120);

pub struct MskTokens {
    region: String,
    lifetime: Duration,
    credentials: CachedCredentials,
}

impl MskTokens {
    pub fn new(
        settings: &MskSettings,
        proxy: Option<&ProxySettings>,
        log: Arc<dyn log::Log>,
        ask_for_key: Option<AskForKey>,
    ) -> Result<Self> {
        Ok(MskTokens {
            region: settings.region.clone(),
            lifetime: settings.lifetime,
            credentials: CachedCredentials::new(settings, proxy, log, ask_for_key)?,
        })
    }
}

impl TokenSource for MskTokens {
    fn token(&self, _: &str) -> Result<Token> {
        let context = |error: Error| error.context("making a token for Amazon MSK (\"aws_msk_iam\")");
        let credentials = self.credentials.get().map_err(context)?;
        presign(&self.region, self.lifetime, &credentials, SystemTime::now()).map_err(context)
    }

    fn note_rejection(&self) {
        self.credentials.note_rejection();
    }

    fn rejection_grace(&self) -> Duration {
        if self.credentials.are_of_user() { NEW_KEY_GRACE } else { Duration::ZERO }
    }
}

/// The token for a request signed at `now`.
fn presign(region: &str, lifetime: Duration, credentials: &Credentials, now: SystemTime) -> Result<Token> {
    // The URL is only signed, never connected to, so its suffix is the same in every partition of
    // AWS.
    let request = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lifetime);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()
        .map_err(signing_failed)?;
    let signable = SignableRequest::new("GET", &request, std::iter::empty(), SignableBody::Bytes(&[]));
    let (signature, _) =
        signable.and_then(|signable| sign(signable, &SigningParams::V4(params))).map_err(signing_failed)?.into_parts();
    let mut signed = http::Request::get(&request).body(()).map_err(signing_failed)?;
    signature.apply_to_request_http1x(&mut signed);

    let value = URL_SAFE_NO_PAD.encode(format!("{}&User-Agent={USER_AGENT}", signed.uri()));
    let signed_at = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let end = UNIX_EPOCH + signed_at + lifetime;
    // AWS rejects a token whose credentials have expired, so the next one is needed by then.
    let expires = credentials.expiry().map_or(end, |expiry| expiry.min(end));
    Ok(Token { value, principal: credentials.access_key_id().to_owned(), expires })
}

/// The errors of `aws_sigv4` concern the form of the request and never contain credentials.
fn signing_failed(cause: impl std::fmt::Display) -> Error {
    Error::new(Kind::Kafka, format!("signing: {cause}"))
}

#[cfg(test)]
mod tests;
