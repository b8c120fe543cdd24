//! Tokens of Amazon MSK's IAM access control: a presigned request that was never sent. The broker sends it to find out
//! who signed it. The format is AWS' own, as in its library aws-msk-iam-sasl-signer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::credentials::CachedCredentials;
use super::{Token, TokenSource};
use crate::config::MskSettings;
use crate::error::{Error, Kind, Result};

const SERVICE: &str = "kafka-cluster";
/// Unreserved characters and '%' only: it is put into the signed address as it is.
const USER_AGENT: &str = concat!("octopus%2F", env!("CARGO_PKG_VERSION"));

/// How long it may take until a new access key is known to every broker.
const UNTIL_KEYS_ARE_KNOWN: Duration = Duration::from_secs(120);

pub struct MskTokens {
    region: String,
    life: Duration,
    credentials: CachedCredentials,
}

impl MskTokens {
    pub fn new(settings: &MskSettings, log: Arc<dyn log::Log>) -> Result<Self> {
        Ok(MskTokens {
            region: settings.region.clone(),
            life: settings.life,
            credentials: CachedCredentials::new(settings, log)?,
        })
    }
}

impl TokenSource for MskTokens {
    fn token(&self, _: &str) -> Result<Token> {
        let doing = |error: Error| error.context("making a token for Amazon MSK (\"aws_msk_iam\")");
        let credentials = self.credentials.get().map_err(doing)?;
        presign(&self.region, self.life, &credentials, SystemTime::now()).map_err(doing)
    }

    fn note_refusal(&self) {
        self.credentials.note_refusal();
    }

    fn patience(&self) -> Duration {
        if self.credentials.are_of_a_user() { UNTIL_KEYS_ARE_KNOWN } else { Duration::ZERO }
    }
}

/// The token for a request signed at `now`.
fn presign(region: &str, life: Duration, credentials: &Credentials, now: SystemTime) -> Result<Token> {
    // The same suffix in every partition of AWS: it's never connected to, only signed.
    let request = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(life);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()
        .map_err(unsigned)?;
    let signable = SignableRequest::new("GET", &request, std::iter::empty(), SignableBody::Bytes(&[]));
    let (signature, _) =
        signable.and_then(|signable| sign(signable, &SigningParams::V4(params))).map_err(unsigned)?.into_parts();
    let mut signed = http::Request::get(&request).body(()).map_err(unsigned)?;
    signature.apply_to_request_http1x(&mut signed);

    let value = URL_SAFE_NO_PAD.encode(format!("{}&User-Agent={USER_AGENT}", signed.uri()));
    let signed_at = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let end = UNIX_EPOCH + signed_at + life;
    // Beyond the credentials' end nobody would take it: the next one is to be asked for before that.
    let expires = credentials.expiry().map_or(end, |expiry| expiry.min(end));
    Ok(Token { value, principal: credentials.access_key_id().to_owned(), expires })
}

/// The crate's errors are about the request's form; they never hold credentials.
fn unsigned(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Kafka, format!("signing: {why}"))
}

#[cfg(test)]
mod tests;
