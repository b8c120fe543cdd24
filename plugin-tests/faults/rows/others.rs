//! Rows that consist of tests of the suite. Each row runs them and counts those that passed.

use std::process::{Command, Stdio};

use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};

/// Row 16.
pub fn tls(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "secured::broker_certificate_of_unknown_authority_names_the_setting",
            "secured::broker_certificate_for_another_host_is_reported",
            "secured::expired_broker_certificate_is_reported",
            "secured::tls_client_at_a_plaintext_broker_names_the_setting",
            "secured::plaintext_client_at_a_tls_broker_names_the_setting",
        ],
        &["secured::missing_or_untrusted_client_certificate_is_reported"],
    )
}

/// Row 17.
pub fn access(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "sasl::wrong_password_is_reported_with_each_mechanism",
            "sasl::revoked_permission_fails_each_call_naming_topic_or_group",
        ],
        &[
            "sasl::wrong_password_of_a_client_fails_each_push_and_pull",
            "sasl::unauthorized_topic_creation_names_it_and_leaves_nothing",
            "sasl::removed_user_fails_pushes_and_pulls_until_restored",
        ],
    )
}

/// Row 18.
pub fn tokens(run: &Run) -> Result<Tally> {
    suite(run, &["msk::signature_refused_by_the_broker_is_reported"], &["msk::", "tokens::"])
}

/// Row 22. The sanitizers are not part of it, since they need builds of their own: ci/sanitize.sh.
pub fn memory(run: &Run) -> Result<Tally> {
    let shown = suite(run, &["hosts::host_misuse_returns_statuses_and_does_not_crash"], &["hosts::"])?;
    let unit = passed_of(run, &mut cargo_test(&["--workspace", "--lib"], &["abi::"]))?;
    Ok(Tally { events: shown.events, notes: vec![format!("{unit} unit tests, {}", shown.notes.concat())] })
}

/// Row 23.
pub fn process_exit(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "process_exit::exit_while_threads_push_loses_no_accepted_event",
            "process_exit::exit_without_a_reachable_broker_reports_the_count_in_one_line",
        ],
        &["process_exit::"],
    )
}

/// Row 24.
pub fn fork(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "forked_children::forked_server_responds_and_parent_exits_within_two_seconds",
            "forked_children::forked_workers_create_drivers_while_the_parent_uses_tls",
        ],
        &["forked_children::", "hosts::forked_child", "loading::child_processes"],
    )
}

/// Row 25.
pub fn resource_limits(run: &Run) -> Result<Tally> {
    suite(
        run,
        &["resource_limits::no_more_threads_is_an_error", "resource_limits::no_more_descriptors_is_an_error"],
        &["resource_limits::"],
    )
}

/// Row 28.
pub fn limits(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "limits::oversized_batch_is_reported_and_other_partitions_continue",
            "limits::oversized_batch_is_reported_by_each_pull_with_a_long_backoff",
        ],
        &["limits::each_codec_obeys_the_limit_on_decompressed_bytes_exactly"],
    )
}

/// Row 30.
pub fn transactions(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "transactions::lag_is_zero_behind_transaction_markers",
            "transactions::transactions_of_the_java_client_are_read",
        ],
        &["transactions::"],
    )
}

/// Row 29.
pub fn addresses(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "addresses::driver_call_without_a_reachable_broker_lists_each_address",
            "addresses::localhost_with_one_refusing_address_connects_without_delay",
        ],
        &["addresses::"],
    )
}

/// Row 32.
pub fn renewed_credentials(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "secured::replaced_client_certificate_is_used_without_a_new_driver",
            "msk::refused_credentials_are_looked_up_again_at_once",
            "topic_service_identity::expired_authorization_is_reread_from_its_file",
        ],
        &[
            "msk::access_key_not_yet_known_to_brokers_is_retried",
            "msk::default_session_name_is_the_same_each_time",
            "msk::main_job_survives_a_hundred_token_renewals",
            "sasl::removed_user",
            "tokens::",
            "topic_service_identity::expired_authorization",
        ],
    )
}

/// Row 33. The short form uses the oldest version only, since it needs the most fallbacks.
pub fn versions(run: &Run) -> Result<Tally> {
    const VERSIONS: [&str; 5] = ["2.8.2", "3.6.2", "3.9.1", "4.0.0", "4.4.0"];
    const ALWAYS: [&str; 4] = [
        "producing::push_result_id_is_the_offset_of_its_record",
        "positions::consumer_with_targets_reads",
        "recreated_topics::",
        "topics::",
    ];
    const IN_FULL: [&str; 14] = [
        "commits::",
        "component_edges::",
        "components::",
        "consuming::",
        "damaged_data::",
        "exactly_once::",
        "positions::",
        "processing::",
        "producing::",
        "pulls::",
        "records::",
        "shared_clients::",
        "transaction_outcomes::",
        "transactions::",
    ];
    let (versions, tests) = match run.full {
        true => (&VERSIONS[..], [&ALWAYS[..], &IN_FULL].concat()),
        false => (&VERSIONS[..1], ALWAYS.to_vec()),
    };
    let mut notes = Vec::new();
    for version in versions {
        let mut cargo = cargo_test(&["--workspace", "--test", "suite"], &tests);
        if *version < "4" {
            cargo.args(["--skip", "consumer_protocol_member", "--skip", "committed_transaction_has"]);
        }
        if *version < "3" {
            // The test changes a response of a version that Kafka 3.0 added.
            cargo.args(["--skip", "not_coordinator_error_is_retried"]);
        }
        let passed = passed_of(run, cargo.env("OCTOPUS_TEST_KAFKA_VERSION", version))?;
        check(passed >= tests.len(), format_args!("{} tests or more passed on {version}, not {passed}", tests.len()))?;
        notes.push(format!("{version}: {passed} tests"));
    }
    Ok(Tally { events: 0, notes })
}

/// Runs tests of the suite: `always`, and `in_full` as well in the full matrix.
fn suite(run: &Run, always: &[&str], in_full: &[&str]) -> Result<Tally> {
    let mut tests = always.to_vec();
    if run.full {
        tests.extend(in_full);
    }
    let passed = passed_of(run, &mut cargo_test(&["--workspace", "--test", "suite"], &tests))?;
    check(passed >= tests.len(), format_args!("{} tests or more passed, not {passed}", tests.len()))?;
    Ok(Tally { events: 0, notes: vec![format!("{passed} tests")] })
}

/// Runs tests by the beginning of their names. They are built already, with the whole workspace: a
/// build of one package may differ and would replace the files that the other rows use.
fn cargo_test(package: &[&str], tests: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg("test").args(package).args(["--locked", "--quiet", "--"]).args(tests).args(["--test-threads=4"]);
    cargo
}

/// Runs tests and returns how many passed.
fn passed_of(run: &Run, cargo: &mut Command) -> Result<usize> {
    let printed = output(run, cargo)?;
    let results = printed.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    Ok(results.filter_map(|result| result.split(' ').next()?.parse::<usize>().ok()).sum())
}

fn output(run: &Run, command: &mut Command) -> Result<String> {
    run.report(format_args!("{command:?}"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdin(Stdio::null());
    let output = command.output().or_fail(format_args!("running {command:?}"))?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    run.log(format_args!("{printed}{said}"));
    match output.status.success() {
        true => Ok(printed.into_owned()),
        false => Err(Failure(format!("{command:?} ended with {}, see the run's log", output.status))),
    }
}
