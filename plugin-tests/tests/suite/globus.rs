//! The option `globus`: the environment of Globus' diaspora-event-sdk, a mock of its service, and a
//! broker that checks the tokens made with its keys.

use std::process::Command;
use std::sync::LazyLock;

use octopus_loader::Status;
use serde_json::{Value, json};

use crate::job::{job, run_job, run_look_command, wait_for_output};
use crate::msk::{ACCESS_KEY, Msk, REGION, SECRET_KEY};
use crate::support::octopus;
use crate::topic_service::{AUTHORIZATION, PYTHON, SUBJECT, Service, TOKEN, python};

/// Of [`SUBJECT`].
const NAMESPACE: &str = "ns-ecretsubject";

/// The broker, and the service that returns its key.
struct Globus {
    msk: Msk,
    service: Service,
}

impl Globus {
    fn shared() -> &'static Globus {
        static GLOBUS: LazyLock<Globus> = LazyLock::new(|| {
            let msk = Msk::start_with("");
            let key = [ACCESS_KEY, SECRET_KEY, msk.kafka.bootstrap()].map(str::to_owned);
            let service = Service::start_on(
                msk.kafka.internal(),
                NAMESPACE,
                &["--access-key", &key[0], "--secret-key", &key[1], "--endpoint", &key[2]],
            );
            Globus { msk, service }
        });
        &GLOBUS
    }

    fn config(&self, kafka: Value) -> Value {
        let mut config = json!({"kafka": {"security.protocol": "SASL_PLAINTEXT"}});
        config["globus"] = json!({"region": REGION, "url": self.service.url});
        if !kafka.is_null() {
            config["kafka"]["bootstrap.servers"] = kafka;
        }
        config
    }

    fn requested_keys(&self) -> usize {
        self.service.requests().iter().filter(|request| request["path"] == "/api/v3/key").count()
    }
}

const KEY: [(&str, &str); 2] =
    [("OCTOPUS_AWS_ACCESS_KEY_ID", ACCESS_KEY), ("OCTOPUS_AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
const IDENTITY: [(&str, &str); 2] = [("OCTOPUS_SUBJECT", SUBJECT), ("OCTOPUS_AUTHORIZATION", AUTHORIZATION)];

fn failure(config: &Value, variables: &[(&str, &str)]) -> String {
    let (printed, log) = run_look_command(config, variables);
    assert!(printed.contains("FAILED"), "{printed}\n{log}");
    assert!(!printed.contains("octopus-test-secret") && !log.contains("octopus-test-secret"), "a secret was shown");
    printed
}

#[test]
fn key_and_brokers_come_from_the_environment() {
    let globus = Globus::shared();
    let bootstrap = ("OCTOPUS_BOOTSTRAP_SERVERS", globus.msk.kafka.bootstrap());
    let (printed, log) = run_look_command(&globus.config(Value::Null), &[KEY[0], KEY[1], bootstrap]);
    assert_eq!(printed, "LOOKED false\n", "{log}");
    let (printed, log) = run_look_command(&globus.config(json!(globus.msk.kafka.bootstrap())), &KEY);
    assert_eq!(printed, "LOOKED false\n", "{log}");
}

/// The whole job, with topics that the service creates in the subject's namespace.
#[test]
fn key_is_requested_from_the_service() {
    let globus = Globus::shared();
    let before = globus.requested_keys();
    let log = run_job(&globus.config(Value::Null), &IDENTITY);
    assert!(globus.requested_keys() > before);
    assert!(!log.contains("octopus-test-secret"), "a secret was logged");
}

#[test]
fn sdk_and_octopus_share_key_and_topic() {
    let globus = Globus::shared();
    let output = Command::new(python())
        .arg(format!("{PYTHON}/globus.py"))
        .args([&globus.service.url, SUBJECT, TOKEN, REGION])
        .env("OCTOPUS_LIBRARY", octopus().path())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed, format!("{NAMESPACE} {{'by': 'octopus'}}\n"), "{log}");
}

#[test]
fn incomplete_environment_is_rejected_by_name() {
    let globus = Globus::shared();
    let config = globus.config(Value::Null);
    for (variables, reason) in [
        (&[][..], "no OCTOPUS_AWS_ACCESS_KEY_ID, OCTOPUS_AWS_SECRET_ACCESS_KEY"),
        (&KEY[..1], "OCTOPUS_AWS_ACCESS_KEY_ID, but no OCTOPUS_AWS_SECRET_ACCESS_KEY"),
        (&KEY, "no OCTOPUS_BOOTSTRAP_SERVERS"),
        (&IDENTITY[..1], "OCTOPUS_SUBJECT, but no OCTOPUS_AUTHORIZATION"),
        (&IDENTITY[1..], "OCTOPUS_AUTHORIZATION, but no OCTOPUS_SUBJECT"),
    ] {
        let printed = failure(&config, variables);
        assert!(printed.contains("configuration: globus: ") && printed.contains(reason), "{printed}");
    }
}

#[test]
fn refused_identity_is_reported_without_secrets() {
    let globus = Globus::shared();
    let variables = [("OCTOPUS_SUBJECT", SUBJECT), ("OCTOPUS_AUTHORIZATION", "Bearer octopus-test-secret-old")];
    let printed = failure(&globus.config(Value::Null), &variables);
    assert!(printed.contains("access key") && printed.contains("OCTOPUS_AUTHORIZATION"), "{printed}");
}

#[test]
fn defaults_are_those_of_the_sdk() {
    let variables = [IDENTITY[0], IDENTITY[1], KEY[0], KEY[1], ("OCTOPUS_BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    let describe = |more: &[(&str, &str)]| {
        let (printed, log) =
            wait_for_output(job(&json!({"globus": {}}), &["describe"], &[&variables, more].concat()).spawn().unwrap());
        assert!(!printed.contains("octopus-test-secret") && !log.contains("octopus-test-secret"), "a secret was shown");
        serde_json::from_str::<Value>(&printed).unwrap_or_else(|error| panic!("{error}: {printed}\n{log}"))
    };
    let described = describe(&[]);
    assert_eq!(described["aws_msk_iam"]["region"], "us-east-1");
    assert!(described["octopus"]["url"].as_str().unwrap().contains("diaspora-web-service"), "{described}");
    assert_eq!((&described["namespace"], &described["info_topic_prefix"]), (&json!(NAMESPACE), &json!("info_")));
    let local = describe(&[("DIASPORA_SDK_ENVIRONMENT", "local")]);
    assert_eq!(local["octopus"]["url"], "http://localhost:8000");
}

#[test]
fn globus_excludes_its_parts() {
    for other in ["embedded", "aws_msk_iam", "octopus"] {
        let config = json!({"globus": {}, other: {"region": "eu-central-1", "subject": "s"}});
        let error = octopus().driver(config).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration);
        assert!(error.message.contains("globus") && error.message.contains(other), "{error}");
    }
    for (options, reason) in [(json!({"zone": "x"}), "globus.zone"), (json!({"region": "US"}), "globus.region")] {
        let config = json!({"globus": options});
        let error = octopus().driver(config).map(drop).unwrap_err();
        assert!(error.message.contains(reason), "{error}");
    }
}

/// The service's own limits of names are checked before anything is created.
#[test]
fn name_that_the_service_would_reject_creates_nothing() {
    let globus = Globus::shared();
    let config = globus.config(Value::Null);
    for (name, reason) in [("ab.c", "letters"), ("-abc", "begin or end"), (&"x".repeat(28), "3 to 32")] {
        let (printed, log) = wait_for_output(job(&config, &["create", name], &IDENTITY).spawn().unwrap());
        assert!(printed.contains("FAILED") && printed.contains(reason), "{printed}\n{log}");
        // Other tests use the service at the same time.
        let names_topic = |request: &&Value| request["path"].as_str().is_some_and(|path| path.contains(name));
        assert_eq!(globus.service.requests().iter().find(names_topic), None, "{name}");
    }
}
