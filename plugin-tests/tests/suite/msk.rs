//! Amazon MSK's access control: a broker that checks tokens as MSK does, and each way that credentials are found.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::Status;
use serde_json::{Value, json};

use crate::job::{Running, folder, job, look};
use crate::kafka::{Kafka, class_folder, unique};
use crate::stand_in::{Request, StandIn};
use crate::support::{eventually, octopus};

const REGION: &str = "eu-central-1";
const ACCESS_KEY: &str = "ASIAOCTOPUSTESTS0000";
const SECRET_KEY: &str = "octopus-test-secret/of+the+access+key";
const SESSION_TOKEN: &str = "octopus-test-secret//session+token==";

const ANOTHER_SECRET: &str = "octopus-test-secret-of-somebody-else";
const CONTAINER_TOKEN: &str = "octopus-test-secret-of-a-container";
const METADATA_SESSION: &str = "octopus-test-secret-metadata-session";

/// A broker that lets in who shows a token signed with the test's credentials.
struct Msk {
    kafka: Kafka,
    log: PathBuf,
}

impl Msk {
    fn start() -> Msk {
        Msk::start_with(&format!("sessionToken=\"{SESSION_TOKEN}\""))
    }

    fn start_with(more_options: &str) -> Msk {
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
        ]);
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

    /// What the checker said of tokens.
    fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn accepted(&self) -> usize {
        self.said().iter().filter(|line| line.starts_with("accepted")).count()
    }
}

/// Writes a file, and gives its path.
fn file(name: &str, text: &str) -> String {
    let path = folder("msk").join(unique(name));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn credentials_in_the_environment() -> Vec<(&'static str, &'static str)> {
    vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_SESSION_TOKEN", SESSION_TOKEN)]
}

#[test]
fn the_main_job_goes_on_through_a_hundred_renewals_of_tokens_while_its_consumers_are_idle() {
    const RENEWALS: usize = 100;
    let msk = Msk::start();
    // With their administrators, readers and writers of info topics, each driver has five clients.
    let config = msk.config(json!({"region": REGION, "expiry_seconds": 10}));
    let mut job = Running::start(job(&config, &["work", "4"], &credentials_in_the_environment()));
    job.expect("WORKED");
    let before = msk.accepted();
    let limit = Instant::now() + Duration::from_secs(240);
    while job.count("has a new token") < 20 + RENEWALS {
        assert!(Instant::now() < limit, "renewals: {}\n{}", job.count("has a new token"), job.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let again = msk.accepted() - before;
    assert!(again > RENEWALS, "connections showed new tokens {again} times while nothing was pushed or pulled");
    job.go_on();
    job.expect("DONE");
    job.end();
    let refused: Vec<_> = msk.said().into_iter().filter(|line| !line.starts_with("accepted")).collect();
    assert_eq!(refused, [""; 0]);
}

fn in_an_hour() -> String {
    time("+1 hour")
}

fn time(when: &str) -> String {
    let output = Command::new("date").args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Credentials as instance metadata and containers give them.
fn as_json() -> String {
    as_json_with(SECRET_KEY, &in_an_hour())
}

fn as_json_with(secret: &str, expiration: &str) -> String {
    json!({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ACCESS_KEY, "SecretAccessKey": secret,
           "Token": SESSION_TOKEN, "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": expiration})
    .to_string()
}

/// And as AWS' token service gives them.
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

fn metadata_service() -> StandIn {
    StandIn::start(|request| match request.line.as_str() {
        "PUT /latest/api/token" => (200, METADATA_SESSION.to_owned()),
        line if line.contains("/security-credentials/the-role") => (200, as_json()),
        line if line.ends_with("/security-credentials/") => (200, "the-role".to_owned()),
        _ => (404, String::new()),
    })
}

fn token_service() -> StandIn {
    StandIn::start(|request: &Request| {
        let action = ["AssumeRoleWithWebIdentity", "AssumeRole"];
        match action.into_iter().find(|action| request.body.contains(&format!("Action={action}&"))) {
            Some(action) => (200, as_xml(action)),
            None => (400, String::new()),
        }
    })
}

/// Runs a program that asks the broker one question, with these variables only.
fn looks(iam: Value, variables: &[(&str, &str)]) -> (String, String) {
    look(&Msk::shared().config(iam), variables)
}

fn gets_in(way: &str, iam: Value, variables: &[(&str, &str)]) {
    let (printed, log) = looks(iam, variables);
    assert_eq!(printed, "LOOKED false\n", "{way}: {log}");
}

#[test]
fn credentials_are_found_in_the_environment() {
    gets_in("environment", json!({"region": REGION}), &credentials_in_the_environment());
}

#[test]
fn credentials_are_found_in_shared_files_and_a_profile_that_is_named_goes_before_the_environment() {
    let keys = format!(
        "aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {SESSION_TOKEN}\n"
    );
    let shared = file("credentials", &format!("[default]\n{keys}"));
    gets_in("shared file", json!({"region": REGION}), &[("AWS_SHARED_CREDENTIALS_FILE", &shared)]);
    let named =
        file("credentials", &format!("[default]\naws_access_key_id = X\naws_secret_access_key = Y\n[work]\n{keys}"));
    let elsewhere = [
        ("AWS_SHARED_CREDENTIALS_FILE", named.as_str()),
        ("AWS_ACCESS_KEY_ID", "SOMEBODYELSE"),
        ("AWS_SECRET_ACCESS_KEY", ANOTHER_SECRET),
    ];
    gets_in("named profile", json!({"region": REGION, "profile": "work"}), &elsewhere);
    let script = format!(
        "printf '%s' '{}'",
        json!({"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "SessionToken": SESSION_TOKEN})
    );
    let script = file("credentials.sh", &script);
    let config = file("config", &format!("[default]\ncredential_process = /bin/sh {script}\n"));
    gets_in("credential process", json!({"region": REGION}), &[("AWS_CONFIG_FILE", &config)]);
}

#[test]
fn credentials_are_had_for_a_web_identity() {
    let (service, identity) = (token_service(), file("identity", "octopus-test-secret-identity"));
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
        ("AWS_ENDPOINT_URL_STS", &service.url("")),
    ];
    gets_in("web identity", json!({"region": REGION}), &variables);
    assert!(service.requests()[0].body.contains("octopus-test-secret-identity"));
}

/// A broker takes no second token from somebody else on a connection, and the session's name is part of who somebody is.
#[test]
fn session_without_a_name_has_the_same_one_each_time() {
    let (service, identity) = (token_service(), file("identity", "octopus-test-secret-identity"));
    let url = service.url("");
    let role = "arn:aws:iam::1:role/pod";
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
        ("AWS_ROLE_ARN", role),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    gets_in("web identity", json!({"region": REGION}), &variables);
    let by_identity = format!("role_arn = {role}\nweb_identity_token_file = {identity}\n");
    let profile = file("config", &format!("[profile work]\n{by_identity}[default]\nregion = {REGION}\n"));
    let variables = [("AWS_CONFIG_FILE", profile.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    gets_in("web identity of a profile", json!({"region": REGION, "profile": "work"}), &variables);
    let by_role = format!("[default]\nrole_arn = {role}\nsource_profile = keys\n");
    let keys = format!("[profile keys]\naws_access_key_id = SOMEBODYELSE\naws_secret_access_key = {ANOTHER_SECRET}\n");
    let profile = file("config", &format!("{by_role}{keys}"));
    let variables = [("AWS_CONFIG_FILE", profile.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    gets_in("role of a profile", json!({"region": REGION}), &variables);
    let named = file("config", &format!("{by_role}role_session_name = beamline\n{keys}"));
    let variables = [("AWS_CONFIG_FILE", named.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
    gets_in("role of a profile with a name", json!({"region": REGION}), &variables);

    let name = |request: &Request| {
        let name = request.body.split('&').find_map(|pair| pair.strip_prefix("RoleSessionName="));
        name.unwrap_or("none").to_owned()
    };
    let names: Vec<_> = service.requests().iter().map(name).collect();
    assert_eq!(names, ["octopus", "octopus", "octopus", "beamline"]);
}

#[test]
fn refused_credentials_are_looked_up_again_at_once_with_the_container_token_of_that_moment() {
    let token = file("container-token", "octopus-test-secret-first");
    let given = token.clone();
    // The first credentials are of no use; whoever was given them gets a new token for the container.
    let service = StandIn::start(move |request| {
        let shows = |token: &str| request.headers.contains(&format!("authorization: {token}"));
        if shows("octopus-test-secret-first") {
            fs::write(&given, CONTAINER_TOKEN).unwrap();
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
    gets_in("container", json!({"region": REGION}), &variables);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn credentials_that_end_within_a_minute_are_not_used() {
    let service = StandIn::start(|_| (200, as_json_with(SECRET_KEY, &time("+30 seconds"))));
    let url = service.url("/credentials");
    let (printed, log) = looks(json!({"region": REGION}), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert!(printed.contains("FAILED") && printed.contains("too soon for a token"), "{printed}\n{log}");
}

#[test]
fn access_key_that_brokers_do_not_know_yet_is_shown_again_until_they_do() {
    let known_once = folder("msk").join(unique("known"));
    let msk = Msk::start_with(&format!("knownOnce=\"{}\"", known_once.display()));
    // Longer than a refusal is waited for otherwise.
    let until_known = Duration::from_secs(8);
    let creating = std::thread::spawn({
        let config = msk.config(json!({"region": REGION}));
        move || look(&config, &[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)])
    });
    eventually("the key is refused", || msk.said().iter().any(|line| line == "refused the key is not known yet"));
    std::thread::sleep(until_known);
    fs::write(&known_once, "").unwrap();
    let (printed, log) = creating.join().unwrap();
    assert_eq!(printed, "LOOKED false\n", "{log}");
    assert!(log.contains("refuses the token") || log.contains("invalid_token"), "nothing told of the refusals: {log}");
}

#[test]
fn credentials_are_had_from_a_container() {
    let service = StandIn::start(|request| match request.line.as_str() {
        "GET /credentials" if request.headers.contains(&format!("authorization: {CONTAINER_TOKEN}")) => {
            (200, as_json())
        }
        _ => (403, String::new()),
    });
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.url("/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN.to_owned()),
    ];
    gets_in("container", json!({"region": REGION}), &variables.each_ref().map(|(name, value)| (*name, value.as_str())));
}

#[test]
fn credentials_are_had_from_instance_metadata_once_for_many_tokens() {
    let service = metadata_service();
    let url = service.url("");
    gets_in("instance metadata", json!({"region": REGION}), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let asked = |line: &str| service.requests().iter().filter(|request| request.line.contains(line)).count();
    let session = format!("x-aws-ec2-metadata-token: {METADATA_SESSION}");
    assert!(service.requests().iter().any(|request| request.headers.contains(&session)));
    assert_eq!(asked("/the-role"), 1);

    let config = Msk::shared().config(json!({"region": REGION, "expiry_seconds": 10}));
    let mut job = Running::start(job(&config, &["work", "1"], &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    eventually("more tokens than clients", || job.count("has a new token") > 6);
    job.go_on();
    job.expect("WORKED");
    job.expect("DONE");
    job.end();
    assert_eq!(asked("/the-role"), 2, "a program looks its credentials up once");
}

#[test]
fn a_role_is_taken_on_with_the_credentials_found() {
    let service = token_service();
    let url = service.url("");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "SOMEBODYELSE"),
        ("AWS_SECRET_ACCESS_KEY", ANOTHER_SECRET),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let role = json!({"region": REGION, "role_arn": "arn:aws:iam::1:role/writer", "role_session_name": "beamline"});
    gets_in("role", role, &variables);
    let asked = &service.requests()[0];
    assert!(asked.body.contains("RoleSessionName=beamline") && asked.body.contains("role%2Fwriter"), "{asked:?}");
    assert!(asked.headers.iter().any(|header| header.starts_with("authorization:") && header.contains("SOMEBODYELSE")));
}

#[test]
fn credentials_that_cannot_be_found_are_told_with_the_places_that_were_looked_at() {
    // Nothing answers there, as on a laptop.
    let nobody = [("AWS_EC2_METADATA_DISABLED", "true")];
    let (printed, log) = looks(json!({"region": REGION}), &nobody);
    for word in ["FAILED", "aws_msk_iam", "credentials", "environment", "profile", "instance metadata"] {
        assert!(printed.contains(word), "{word}: {printed}\n{log}");
    }
    let (printed, _) = looks(json!({"region": REGION, "profile": "no-such-profile"}), &nobody);
    assert!(printed.contains("FAILED") && printed.contains("no-such-profile"), "{printed}");
}

#[test]
fn a_place_of_credentials_that_hangs_is_given_up_and_named() {
    let service = StandIn::start(|_| {
        std::thread::sleep(Duration::from_secs(60));
        (500, String::new())
    });
    let msk = Msk::shared();
    let hanging = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.url("/credentials"))];
    let (began, config) = (Instant::now(), msk.config(json!({"region": REGION})));
    let (printed, log) = look(&config, &hanging.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert!(printed.contains("FAILED") && printed.contains("looking up AWS credentials"), "{printed}\n{log}");
    // 20 s for the look-up, and up to 10 s for the call that waits behind it to see that.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[test]
fn a_signature_that_the_broker_refuses_is_told_as_such() {
    let mut variables = credentials_in_the_environment();
    variables[1].1 = ANOTHER_SECRET;
    let (printed, log) = looks(json!({"region": REGION}), &variables);
    for word in ["FAILED", "refuses the token", "aws_msk_iam.region", "clock"] {
        assert!(printed.contains(word), "{word}: {printed}\n{log}");
    }
    assert!(Msk::shared().said().iter().any(|line| line == "refused the signature is wrong"));
}

#[test]
fn tokens_from_two_places_and_tokens_from_nowhere_are_refused_when_the_driver_is_made() {
    let of = |settings: Value| {
        let mut config = json!({"kafka": {"bootstrap.servers": "127.0.0.1:1"}});
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        octopus().driver_builder(config)
    };
    let both = of(json!({"aws_msk_iam": {"region": REGION}})).token(|_| Err("never asked".to_owned())).create();
    let error = both.map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("aws_msk_iam") && error.message.contains("services.token"), "{error}");
    let nobody = octopus().driver(json!({"kafka": {"bootstrap.servers": "x", "sasl.mechanism": "OAUTHBEARER"}}));
    let error = nobody.map(drop).unwrap_err();
    assert!(error.message.contains("kafka.sasl.mechanism") && error.message.contains("aws_msk_iam"), "{error}");
}
