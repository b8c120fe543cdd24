use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// The output of AWS' own signer for the same input, created by plugin-tests/python/msk_vectors.py.
#[derive(Deserialize)]
struct Vectors {
    access_key: String,
    secret_key: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    region: String,
    session_token: Option<String>,
    seconds: u64,
    canonical_request: String,
    url: String,
    expires_ms: u64,
}

const LIFETIME: Duration = Duration::from_secs(900);

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn decoded(token: &Token) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(&token.value).unwrap()).unwrap()
}

/// The query parameters of a signed URL, without unescaping.
fn parameters(url: &str) -> BTreeMap<&str, &str> {
    url.split_once('?').unwrap().1.split('&').map(|pair| pair.split_once('=').unwrap()).collect()
}

/// The signed text, reconstructed from the URL.
fn canonical_request(url: &str) -> String {
    let host = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let signed: Vec<_> = parameters(url)
        .into_iter()
        .filter(|(name, _)| !["X-Amz-Signature", "User-Agent"].contains(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let no_body = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    format!("GET\n/\n{}\nhost:{host}\n\nhost\n{no_body}", signed.join("&"))
}

#[test]
fn token_equals_that_of_the_aws_signer() {
    let Vectors { access_key, secret_key, vectors } = vectors();
    assert!(vectors.len() >= 6);
    for vector in vectors {
        let credentials = Credentials::new(&access_key, &secret_key, vector.session_token, None, "test");
        let now = UNIX_EPOCH + Duration::from_secs(vector.seconds) + Duration::from_millis(999);
        let token = presign(&vector.region, LIFETIME, &credentials, now).unwrap();
        let url = decoded(&token);

        assert_eq!(canonical_request(&url), vector.canonical_request, "{}", vector.region);
        let (ours, theirs) = (parameters(&url), parameters(&vector.url));
        assert_eq!(ours["X-Amz-Signature"], theirs["X-Amz-Signature"], "{}", vector.region);
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        assert_eq!(ours["User-Agent"], USER_AGENT);
        assert!(!url.split_once("User-Agent=").unwrap().1.contains('&'), "the user agent is not the last parameter");
        assert_eq!(token.expires, UNIX_EPOCH + Duration::from_millis(vector.expires_ms));
        assert!(!token.value.contains(['=', '+', '/']), "base64url without padding");
        assert_eq!(token.principal, access_key);
    }
}

#[test]
fn token_expires_no_later_than_its_credentials() {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let lifetime = Duration::from_secs(60);
    let ending_in = |seconds| Credentials::new("key", "secret", None, Some(now + Duration::from_secs(seconds)), "test");
    let token = presign("us-east-1", lifetime, &ending_in(3600), now).unwrap();
    assert_eq!(parameters(&decoded(&token))["X-Amz-Expires"], "60");
    assert_eq!(token.expires, now + lifetime);
    assert_eq!(presign("us-east-1", lifetime, &ending_in(20), now).unwrap().expires, now + Duration::from_secs(20));
}

#[test]
fn debug_output_hides_the_token() {
    let credentials = Credentials::new("key", "octopus-test-secret", None, None, "test");
    let token = presign("us-east-1", LIFETIME, &credentials, SystemTime::now()).unwrap();
    let shown = format!("{token:?}");
    assert!(!shown.contains(&token.value), "{shown}");
}
