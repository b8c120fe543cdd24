//! Rows that the test suite has, test by test: here they are run, and counted.

use std::process::{Command, Stdio};

use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};

/// Row 16.
pub fn tls(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "secured::a_certificate_of_another_authority_is_told_with_the_setting_to_look_at",
            "secured::a_certificate_for_another_host_is_told_as_such",
            "secured::a_certificate_that_has_expired_is_told_as_such",
            "secured::a_broker_that_speaks_no_tls_is_told_to_who_speaks_it",
            "secured::a_broker_that_wants_tls_is_told_to_who_does_not_speak_it",
        ],
        &["secured::a_client_certificate_that_is_missing_or_another_authoritys_is_told_as_such"],
    )
}

/// Row 17.
pub fn access(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "secured::wrong_passwords_are_told_as_such_whatever_the_mechanism",
            "secured::what_a_user_may_not_write_read_or_join_is_told_by_name_each_time_also_when_forbidden_while_running",
        ],
        &[
            "secured::a_producers_and_a_consumers_own_wrong_password_are_told_by_each_push_and_each_pull",
            "secured::making_a_topic_that_kafka_does_not_allow_is_told_by_its_name_each_time_and_leaves_nothing",
            "secured::a_user_who_is_taken_away_while_running_is_told_by_push_and_pull_and_goes_on_when_given_back",
        ],
    )
}

/// Row 18.
pub fn tokens(run: &Run) -> Result<Tally> {
    suite(run, &["msk::a_signature_that_the_broker_refuses_is_told_as_such"], &["msk::", "tokens::"])
}

/// Row 22, but for the sanitizers, which have builds of their own: ci/sanitize.sh.
pub fn memory(run: &Run) -> Result<Tally> {
    let shown = suite(run, &["hosts::a_careless_host_gets_statuses_not_crashes"], &["hosts::"])?;
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
            "forked_children::forked_server_answers_and_the_parent_ends_within_two_seconds",
            "forked_children::forked_workers_create_drivers_while_the_parent_speaks_tls",
        ],
        &["forked_children::", "hosts::a_host_that_forks", "loading::processes_made"],
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
        &["limits::batch_larger_than_a_response_may_be_is_reported_and_other_partitions_go_on"],
        &["limits::each_codec_obeys_the_limit_on_decompressed_bytes_exactly"],
    )
}

/// Row 30.
pub fn transactions(run: &Run) -> Result<Tally> {
    suite(
        run,
        &[
            "transactions::lag_is_zero_behind_transaction_markers",
            "transactions::transactions_of_javas_client_are_read_like_those_of_librdkafka",
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
            "addresses::localhost_with_one_address_that_refuses_is_no_error_and_no_delay",
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
            "topic_service::ended_authorization_is_read_again_from_its_file",
        ],
        &[
            "msk::access_key_that_brokers_do_not_know_yet_is_shown_again_until_they_do",
            "msk::session_without_a_name_has_the_same_one_each_time",
            "msk::the_main_job_goes_on_through_a_hundred_renewals",
            "secured::a_user_who_is_taken_away_while_running_is_told",
            "tokens::",
            "topic_service::ended_authorization",
        ],
    )
}

/// Row 33. The first one is the oldest, and the only one in short: what it lacks has fallbacks.
pub fn versions(run: &Run) -> Result<Tally> {
    const VERSIONS: [&str; 5] = ["2.8.2", "3.6.2", "3.9.1", "4.0.0", "4.4.0"];
    const ALWAYS: [&str; 4] = [
        "producing::the_id_that_a_push_returns_is_the_offset_of_its_record",
        "positions::a_consumer_with_targets_reads",
        "recreated_topics::",
        "topics::",
    ];
    const IN_FULL: [&str; 11] = [
        "commits::",
        "component_edges::",
        "components::",
        "consuming::",
        "damaged_data::",
        "positions::",
        "processing::",
        "producing::",
        "records::",
        "shared_clients::",
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
            cargo.args(["--skip", "new_group_protocol"]);
        }
        if *version < "3" {
            // It changes responses of a version that came with 3.0.
            cargo.args(["--skip", "a_coordinator_that_is_not_one_yet"]);
        }
        let passed = passed_of(run, cargo.env("OCTOPUS_TEST_KAFKA_VERSION", version))?;
        check(passed >= tests.len(), format_args!("{} tests or more passed on {version}, not {passed}", tests.len()))?;
        notes.push(format!("{version}: {passed} tests"));
    }
    Ok(Tally { events: 0, notes })
}

/// Runs these tests of the suite, and those in full as well.
fn suite(run: &Run, always: &[&str], in_full: &[&str]) -> Result<Tally> {
    let mut tests = always.to_vec();
    if run.full {
        tests.extend(in_full);
    }
    let passed = passed_of(run, &mut cargo_test(&["--workspace", "--test", "suite"], &tests))?;
    check(passed >= tests.len(), format_args!("{} tests or more passed, not {passed}", tests.len()))?;
    Ok(Tally { events: 0, notes: vec![format!("{passed} tests")] })
}

/// Tests by the names that they begin with. They are built already: of the whole workspace, since what is built of a part can
/// differ, and would take the place of what the other rows use.
fn cargo_test(package: &[&str], tests: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg("test").args(package).args(["--locked", "--quiet", "--"]).args(tests).args(["--test-threads=4"]);
    cargo
}

/// Runs tests; how many passed.
fn passed_of(run: &Run, cargo: &mut Command) -> Result<usize> {
    let printed = output(run, cargo)?;
    let results = printed.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    Ok(results.filter_map(|result| result.split(' ').next()?.parse::<usize>().ok()).sum())
}

fn output(run: &Run, command: &mut Command) -> Result<String> {
    run.say(format_args!("{command:?}"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdin(Stdio::null());
    let output = command.output().or_fail(format_args!("running {command:?}"))?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    run.keep(format_args!("{printed}{said}"));
    match output.status.success() {
        true => Ok(printed.into_owned()),
        false => Err(Failure(format!("{command:?} ended with {}, see the run's log", output.status))),
    }
}
