//! IAM access control of Amazon MSK: a broker that checks tokens as MSK does, and each source of
//! credentials.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::Status;
use octopus_testkit::poll;
use serde_json::{Value, json};

use crate::job::{Running, folder, job, run_look_command};
use crate::kafka::{Kafka, class_folder, unique};
use crate::mock_service::{MockService, Request};
use crate::support::{eventually, octopus};

pub const REGION: &str = "eu-central-1";
pub const ACCESS_KEY: &str = "ASIAOCTOPUSTESTS0000";
pub const SECRET_KEY: &str = "octopus-test-secret/of+the+access+key";
const SESSION_TOKEN: &str = "octopus-test-secret//session+token==";

const ANOTHER_SECRET: &str = "octopus-test-secret-of-somebody-else";
const CONTAINER_TOKEN: &str = "octopus-test-secret-of-a-container";
const METADATA_SESSION: &str = "octopus-test-secret-metadata-session";

/// A broker that accepts clients whose token is signed with the test's credentials.
pub struct Msk {
    pub kafka: Kafka,
    log: PathBuf,
}

impl Msk {
    fn start() -> Msk {
        Msk::start_with(&format!("sessionToken=\"{SESSION_TOKEN}\""))
    }

    pub fn start_with(more_options: &str) -> Msk {
        let log = folder("msk").join(unique("tokens"));
        let module = format!(
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\" region=\"{REGION}\" \
             accessKey=\"{ACCESS_KEY}\" secretKey=\"{SECRET_KEY}\" log=\"{}\" {more_options};",
            log.display()
        );
        let listener = |name: &str, value: &str| format!("listener.name.client.oauthbearer.{name}={value}");
        let kafka = Kafka::start(&[
            "--protocol",
            "SASL_PLAINTEXT",
            "--class-path",
            &class_folder("MskTokenChecker.java"),
            "--set",
            "sasl.enabled.mechanisms=OAUTHBEARER",
            "--set",
            &listener("sasl.jaas.config", &module),
            "--set",
            &listener("sasl.server.callback.handler.class", "MskTokenChecker"),
            "--set",
            &listener("connections.max.reauth.ms", "5000"),
        ])
        .unwrap();
        Msk { kafka, log }
    }

    fn shared() -> &'static Msk {
        static MSK: LazyLock<Msk> = LazyLock::new(Msk::start);
        &MSK
    }

    fn config(&self, iam: Value) -> Value {
        let kafka = json!({"bootstrap.servers": self.kafka.bootstrap(), "security.protocol": "SASL_PLAINTEXT"});
        json!({"kafka": kafka, "aws_msk_iam": iam})
    }

    /// The checker's log: one line per token.
    fn token_log(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn accepted(&self) -> usize {
        self.token_log().iter().filter(|line| line.starts_with("accepted")).count()
    }
}

/// Writes a file, and returns its path.
fn file(name: &str, text: &str) -> String {
    let path = folder("msk").join(unique(name));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn credentials_in_the_environment() -> Vec<(&'static str, &'static str)> {
    vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_SESSION_TOKEN", SESSION_TOKEN)]
}

#[test]
fn main_job_survives_a_hundred_token_renewals_while_idle() {
    const RENEWALS: usize = 100;
    let msk = Msk::start();
    // Including its admin client and the reader and writer of info topics, each driver has five
    // clients.
    let config = msk.config(json!({"region": REGION, "expiry_seconds": 10}));
    let mut job = Running::start(job(&config, &["work", "4"], &credentials_in_the_environment()));
    job.expect("WORKED");
    let before = msk.accepted();
    let renewed = || job.count("has a new token") >= 20 + RENEWALS;
    let is_renewed = poll(Duration::from_secs(240), || renewed().then_some(())).is_some();
    assert!(is_renewed, "renewals: {}\n{}", job.count("has a new token"), job.log());
    let renewals = msk.accepted() - before;
    assert!(renewals > RENEWALS, "connections sent new tokens only {renewals} times while idle");
    job.close_input();
    job.expect("DONE");
    job.end();
    let refused: Vec<_> = msk.token_log().into_iter().filter(|line| !line.starts_with("accepted")).collect();
    assert_eq!(refused, [""; 0]);
}

fn in_an_hour() -> String {
    time("+1 hour")
}

fn time(when: &str) -> String {
    let output = Command::new("date").args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Credentials in the format of instance metadata and containers.
fn as_json() -> String {
    as_json_with(SECRET_KEY, &in_an_hour())
}

fn as_json_with(secret: &str, expiration: &str) -> String {
    json!({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ACCESS_KEY, "SecretAccessKey": secret,
           "Token": SESSION_TOKEN, "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": expiration})
    .to_string()
}

/// Credentials in the format of AWS' Security Token Service.
fn as_xml(action: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
         <SessionToken>{SESSION_TOKEN}</SessionToken><Expiration>{}</Expiration></Credentials>\
         <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>\
         </{action}Result></{action}Response>",
        in_an_hour()
    )
}

fn metadata_service() -> MockService {
    MockService::start(|request| match request.line.as_str() {
        "PUT /latest/api/token" => (200, METADATA_SESSION.to_owned()),
        line if line.contains("/security-credentials/the-role") => (200, as_json()),
        line if line.ends_with("/security-credentials/") => (200, "the-role".to_owned()),
        _ => (404, String::new()),
    })
}

fn token_service() -> MockService {
    MockService::start(|request: &Request| {
        let action = ["AssumeRoleWithWebIdentity", "AssumeRole"];
        match action.into_iter().find(|action| request.body.contains(&format!("Action={action}&"))) {
            Some(action) => (200, as_xml(action)),
            None => (400, String::new()),
        }
    })
}

/// Runs a program that sends a single request to the broker, with these environment variables only.
fn run_look(iam: Value, variables: &[(&str, &str)]) -> (String, String) {
    run_look_command(&Msk::shared().config(iam), variables)
}

fn assert_accepted(source: &str, iam: Value, variables: &[(&str, &str)]) {
    let (printed, log) = run_look(iam, variables);
    assert_eq!(printed, "LOOKED false\n", "{source}: {log}");
}

#[test]
fn credentials_are_found_in_the_environment() {
    assert_accepted("environment", json!({"region": REGION}), &credentials_in_the_environment());
}

/// A profile that the configuration names takes precedence over the environment.
#[test]
fn credentials_are_found_in_shared_files_and_named_profiles() {
    let keys = format!(
        "aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {SESSION_TOKEN}\n"
    );
    let shared = file("credentials", &format!("[default]\n{keys}"));
    assert_accepted("shared file", json!({"region": REGION}), &[("AWS_SHARED_CREDENTIALS_FILE", &shared)]);
    let named =
        file("credentials", &format!("[default]\naws_access_key_id = X\naws_secret_access_key = Y\n[work]\n{keys}"));
    let variables = [
        ("AWS_SHARED_CREDENTIALS_FILE", named.as_str()),
        ("AWS_ACCESS_KEY_ID", "ANOTHERACCESSKEY"),
        ("AWS_SECRET_ACCESS_KEY", ANOTHER_SECRET),
    ];
    assert_accepted("named profile", json!({"region": REGION, "profile": "work"}), &variables);
    let script = format!(
        "printf '%s' '{}'",
        json!({"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "SessionToken": SESSION_TOKEN})
    );
    let script = file("credentials.sh", &script);
    let config = file("config", &format!("[default]\ncredential_process = /bin/sh {script}\n"));
    assert_accepted("credential process", json!({"region": REGION}), &[("AWS_CONFIG_FILE", &config)]);
}

#[test]
fn credentials_are_obtained_for_a_web_identity() {
    let (service, identity) = (token_service(), file("identity", "octopus-test-secret-identity"));
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
        ("AWS_ENDPOINT_URL_STS", &service.url("")),
    ];
    assert_accepted("web identity", json!({"region": REGION}), &variables);
    assert!(service.requests()[0].body.contains("octopus-test-secret-identity"));
}

/// The session name is a part of the principal, and a broker rejects a token of another principal
/// when a connection re-authenticates.
#[test]
fn default_session_name_is_the_same_each_time() {
    let (service, identity) = (token_service(), file("identity", "octopus-test-secret-identity"));
    let url = service.url("");
    let role = "arn:aws:iam::1:role/pod";
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
        ("AWS_ROLE_ARN", role),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    assert_accepted("web identity", json!({"region": REGION}), &variables);
    let by_identity = format!("role_arn = {role}\nweb_identity_token_file = {identity}\n");
    let profile = file("config", &format!("[profile work]\n{by_identity}[default]\nregion = {REGION}\n"));
    let variables = [("AWS_CONFIG_FILE", profile.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    assert_accepted("web identity of a profile", json!({"region": REGION, "profile": "work"}), &variables);
    let by_role = format!("[default]\nrole_arn = {role}\nsource_profile = keys\n");
    let keys =
        format!("[profile keys]\naws_access_key_id = ANOTHERACCESSKEY\naws_secret_access_key = {ANOTHER_SECRET}\n");
    let profile = file("config", &format!("{by_role}{keys}"));
    let variables = [("AWS_CONFIG_FILE", profile.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    assert_accepted("role of a profile", json!({"region": REGION}), &variables);
    let named = file("config", &format!("{by_role}role_session_name = beamline\n{keys}"));
    let variables = [("AWS_CONFIG_FILE", named.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    assert_accepted("role of a profile with a name", json!({"region": REGION}), &variables);

    let name = |request: &Request| {
        let name = request.body.split('&').find_map(|pair| pair.strip_prefix("RoleSessionName="));
        name.unwrap_or("none").to_owned()
    };
    let names: Vec<_> = service.requests().iter().map(name).collect();
    assert_eq!(names, ["octopus", "octopus", "octopus", "beamline"]);
}

/// The look-up reads the container's authorization token again, as it may have changed.
#[test]
fn refused_credentials_are_looked_up_again_at_once() {
    let token = file("container-token", "octopus-test-secret-first");
    let token_file = token.clone();
    // The broker refuses the first credentials. The service that hands them out replaces the
    // container's token.
    let service = MockService::start(move |request| {
        let shows = |token: &str| request.headers.contains(&format!("authorization: {token}"));
        if shows("octopus-test-secret-first") {
            fs::write(&token_file, CONTAINER_TOKEN).unwrap();
            (200, as_json_with(ANOTHER_SECRET, &in_an_hour()))
        } else if shows(CONTAINER_TOKEN) {
            (200, as_json())
        } else {
            (403, String::new())
        }
    });
    let url = service.url("/credentials");
    let variables =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token)];
    Msk::shared();
    let began = Instant::now();
    assert_accepted("container", json!({"region": REGION}), &variables);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn credentials_expiring_within_a_minute_are_not_used() {
    let service = MockService::start(|_| (200, as_json_with(SECRET_KEY, &time("+30 seconds"))));
    let url = service.url("/credentials");
    let (printed, log) = run_look(json!({"region": REGION}), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert!(printed.contains("FAILED") && printed.contains("too soon for a token"), "{printed}\n{log}");
}

#[test]
fn access_key_not_yet_known_to_brokers_is_retried() {
    let known_once = folder("msk").join(unique("known"));
    let msk = Msk::start_with(&format!("knownOnce=\"{}\"", known_once.display()));
    // Longer than a client waits after the refusal of other credentials.
    let unknown_for = Duration::from_secs(8);
    let creating = std::thread::spawn({
        let config = msk.config(json!({"region": REGION}));
        move || run_look_command(&config, &[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)])
    });
    eventually("the key is refused", || msk.token_log().iter().any(|line| line == "refused the key is not known yet"));
    std::thread::sleep(unknown_for);
    fs::write(&known_once, "").unwrap();
    let (printed, log) = creating.join().unwrap();
    assert_eq!(printed, "LOOKED false\n", "{log}");
    assert!(
        log.contains("rejects the token") || log.contains("invalid_token"),
        "the refusals are not in the log: {log}"
    );
}

#[test]
fn credentials_are_obtained_from_a_container() {
    let service = MockService::start(|request| match request.line.as_str() {
        "GET /credentials" if request.headers.contains(&format!("authorization: {CONTAINER_TOKEN}")) => {
            (200, as_json())
        }
        _ => (403, String::new()),
    });
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.url("/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN.to_owned()),
    ];
    assert_accepted(
        "container",
        json!({"region": REGION}),
        &variables.each_ref().map(|(name, value)| (*name, value.as_str())),
    );
}

#[test]
fn instance_metadata_credentials_serve_many_tokens() {
    let service = metadata_service();
    let url = service.url("");
    assert_accepted("instance metadata", json!({"region": REGION}), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let request_count = |line: &str| service.requests().iter().filter(|request| request.line.contains(line)).count();
    let session = format!("x-aws-ec2-metadata-token: {METADATA_SESSION}");
    assert!(service.requests().iter().any(|request| request.headers.contains(&session)));
    assert_eq!(request_count("/the-role"), 1);

    let config = Msk::shared().config(json!({"region": REGION, "expiry_seconds": 10}));
    let mut job = Running::start(job(&config, &["work", "1"], &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    eventually("more tokens than clients", || job.count("has a new token") > 6);
    job.close_input();
    job.expect("WORKED");
    job.expect("DONE");
    job.end();
    assert_eq!(request_count("/the-role"), 2, "a process looks up its credentials once");
}

#[test]
fn role_is_assumed_with_the_credentials_found() {
    let service = token_service();
    let url = service.url("");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "ANOTHERACCESSKEY"),
        ("AWS_SECRET_ACCESS_KEY", ANOTHER_SECRET),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let role = json!({"region": REGION, "role_arn": "arn:aws:iam::1:role/writer", "role_session_name": "beamline"});
    assert_accepted("role", role, &variables);
    let request = &service.requests()[0];
    assert!(request.body.contains("RoleSessionName=beamline") && request.body.contains("role%2Fwriter"), "{request:?}");
    assert!(
        request
            .headers
            .iter()
            .any(|header| header.starts_with("authorization:") && header.contains("ANOTHERACCESSKEY"))
    );
}

#[test]
fn missing_credentials_error_lists_the_sources_tried() {
    // No instance metadata service responds, as on a laptop.
    let variables = [("AWS_EC2_METADATA_DISABLED", "true")];
    let (printed, log) = run_look(json!({"region": REGION}), &variables);
    for word in ["FAILED", "aws_msk_iam", "credentials", "environment", "profile", "instance metadata"] {
        assert!(printed.contains(word), "{word}: {printed}\n{log}");
    }
    let (printed, _) = run_look(json!({"region": REGION, "profile": "no-such-profile"}), &variables);
    assert!(printed.contains("FAILED") && printed.contains("no-such-profile"), "{printed}");
}

#[test]
fn hanging_credential_source_times_out_and_is_named() {
    let service = MockService::start(|_| {
        std::thread::sleep(Duration::from_secs(60));
        (500, String::new())
    });
    let msk = Msk::shared();
    let hanging = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.url("/credentials"))];
    let (began, config) = (Instant::now(), msk.config(json!({"region": REGION})));
    let (printed, log) = run_look_command(&config, &hanging.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert!(printed.contains("FAILED") && printed.contains("looking up AWS credentials"), "{printed}\n{log}");
    // 20 s for the look-up, and up to 10 s until the call that waits for it returns.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[test]
fn signature_refused_by_the_broker_is_reported() {
    let mut variables = credentials_in_the_environment();
    variables[1].1 = ANOTHER_SECRET;
    let (printed, log) = run_look(json!({"region": REGION}), &variables);
    for word in ["FAILED", "rejects the token", "aws_msk_iam.region", "clock"] {
        assert!(printed.contains(word), "{word}: {printed}\n{log}");
    }
    assert!(Msk::shared().token_log().iter().any(|line| line == "refused the signature is wrong"));
}

#[test]
fn driver_with_two_token_sources_or_none_is_rejected() {
    let builder_with = |settings: Value| {
        let mut config = json!({"kafka": {"bootstrap.servers": "127.0.0.1:1"}});
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        octopus().driver_builder(config)
    };
    let both =
        builder_with(json!({"aws_msk_iam": {"region": REGION}})).token(|_| Err("never called".to_owned())).create();
    let error = both.map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("aws_msk_iam") && error.message.contains("services.token"), "{error}");
    let none = octopus().driver(json!({"kafka": {"bootstrap.servers": "x", "sasl.mechanism": "OAUTHBEARER"}}));
    let error = none.map(drop).unwrap_err();
    assert!(error.message.contains("kafka.sasl.mechanism") && error.message.contains("aws_msk_iam"), "{error}");
}
