#!/usr/bin/env bash
# Runs all checks that must pass before a change is merged: the README's test command, and the
# script of .ci/run.
#
#   ci/test.sh                  runs all checks, also in a fresh clone
#   ci/test.sh --quick          leaves out the fault matrix, the release build, the sanitizers and what needs them, and
#                               tests with faults and with many processes: about five minutes when built
#   ci/test.sh --without-java   runs what needs no real Kafka: about four minutes when built
#   ci/test.sh --install ...    installs missing Debian packages first, as root; so does CI (the variable CI)
#
# The tests start a real Kafka on free loopback ports and stop it, even if they fail. With
# OCTOPUS_TEST_KAFKA=host:port they use that Kafka.
set -euo pipefail
cd "$(dirname "$0")/.."

extent=full # or quick, or without-java
install=false
[[ -z ${CI:-} ]] || install=true
for argument; do
    case $argument in
        --quick | --without-java) extent=${argument#--} ;;
        --install) install=true ;;
        *)
            sed -n '2,12s/^# \{0,1\}//p' "$0"
            exit 2
            ;;
    esac
done

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} PYTHONDONTWRITEBYTECODE=1
built=$(ci/target.sh)
readonly without_aws=msk,oidc,patched,schema,tls,topic-service,zstd
readonly built unpatched=plugin-tests/aws,plugin-tests/oidc,plugin-tests/schema,plugin-tests/tls,plugin-tests/topic-service,plugin-tests/zstd
summary=()
step_started=$SECONDS
step=''
# A run from a fresh clone needs somewhat less.
readonly needed_gb=12

begin() {
    step=$1
    step_started=$SECONDS
    printf '\n=== %s ===\n' "$step"
}

finish() {
    summary+=("$(printf '%-58s %4d s' "$step" $((SECONDS - step_started)))")
    step=''
}

# Runs a script that ends with 77 if the machine lacks what it needs; the summary says so.
run_unless_skipped() {
    local status=0
    "$@" || status=$?
    [[ $status != 77 ]] || step="skipped: $step"
    [[ $status == 0 || $status == 77 ]] || exit "$status"
}

report() {
    printf '\n=== summary ===\n'
    printf '%s\n' "${summary[@]}"
    if [[ -n $step ]]; then
        printf '%-58s %4d s  FAILED\n' "$step" $((SECONDS - step_started))
    fi
    printf 'in all %d s, %s\n' "$SECONDS" "$([[ -z $step ]] && echo passed || echo FAILED)"
}
trap report EXIT

# The required commands, each with its Debian package.
needed=(
    'cc gcc' 'c++ g++' 'make make' 'perl perl' 'git git' 'nm binutils' 'python3 python3' 'openssl openssl'
    'abidiff abigail-tools' 'abidw abigail-tools' 'node nodejs' 'npm npm'
)
needed_with_kafka=(
    'java default-jre-headless' 'javac default-jdk-headless' 'mvn maven' 'kcat kcat' 'valgrind valgrind'
    'setpriv util-linux' 'unshare util-linux' 'curl-config libcurl4-openssl-dev' 'cmake cmake' 'pkg-config pkg-config'
)
# Tests of the suite that need no real Kafka: those that use the embedded one, or none.
without_kafka=(
    configuration_page::limits configuration_page::options_have_the_type configuration_page::page_has
    configuration_page::planted configuration_page::properties finding:: header:: source_order:: slot_that_no_host_exercises
    hosts::forked_child_gets hosts::host_misuse_passes hosts::host_misuse_returns hosts::preparation_is_destroyed
    loading::thread_local msk::driver_with pools::concurrently_submitted pools::panic_in_host_pool pools::pool_runs
    pools::task_can pools::task_with pools::tasks_run resource_limits::an_embedded services::embedded services::invalid
    services::library services::unreachable services::waiting topic_lifecycle::embedded topic_service_identity::invalid
)

# Modules of the suite that --quick leaves out: they compile programs, start brokers of their own,
# or wait for timeouts.
slow=(
    addresses:: authorization:: corrupted_responses:: damaged_data:: examples:: exactly_once:: fetch_failures::
    forked_children:: header::cpp hosts:: in_flight_limit:: limits:: loading:: msk:: positions:: process_exit::
    record_attributes:: record_exchange:: recreated_topics:: resource_limits:: sasl:: secured:: shared_clients::
    slots_exercised:: transaction_outcomes::
)
# Modules of the Python tests that --quick runs; the others start programs, too.
quick_python=(test_abi test_arguments test_asyncio test_errors test_events test_pulls)

missing_packages() {
    local entry
    for entry in "${needed[@]}"; do
        command -v "${entry%% *}" >/dev/null || echo "${entry##* }"
    done
    # On Debian, venv is in a separate package.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# What the steps that skip themselves need: a server of Kerberos, and proxies.
missing_optional_packages() {
    [[ $extent == full ]] || return 0
    PATH=$PATH:/usr/sbin command -v krb5kdc >/dev/null || echo krb5-kdc
    PATH=$PATH:/usr/sbin command -v kadmin.local >/dev/null || echo krb5-admin-server
    command -v kinit >/dev/null || echo krb5-user
    command -v microsocks >/dev/null || echo microsocks
    PATH=$PATH:/usr/sbin command -v danted >/dev/null || echo dante-server
    PATH=$PATH:/usr/sbin command -v tinyproxy >/dev/null || echo tinyproxy
    PATH=$PATH:/usr/sbin command -v ip >/dev/null || echo iproute2
}

check_programs() {
    local missing entry
    [[ $extent == without-java ]] || needed+=("${needed_with_kafka[@]}")
    mapfile -t missing < <({ missing_packages && { ! $install || missing_optional_packages; }; } | sort -u)
    if [[ ${#missing[@]} -gt 0 ]] && $install; then
        if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
            echo "missing: ${missing[*]} (Debian packages); only root on a Debian system can install them with --install" >&2
            return 1
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    elif [[ ${#missing[@]} -gt 0 ]]; then
        printf 'missing: %s. On Debian, this installs them:\n\n    sudo apt-get install --no-install-recommends %s\n\n' \
            "${missing[*]}" "${missing[*]}" >&2
        [[ $extent == without-java ]] || echo 'ci/test.sh --without-java needs fewer programs.' >&2
        return 1
    fi
    for entry in cargo rustfmt cargo-clippy; do
        command -v "$entry" >/dev/null || {
            echo "missing: $entry; install Rust (rust-version in Cargo.toml) with rustfmt and clippy by rustup" >&2
            return 1
        }
    done
    cargo --version
    [[ $extent == without-java ]] || { java -version 2>&1 | head -1 && kcat -V | head -1; }
}

# Checked first, since the errors of a full disk rarely name it.
check_disk() {
    local available
    mkdir -p "$built"
    available=$(($(df --output=avail -k "$built" | tail -1) / 1024 / 1024))
    printf 'free on the disk: %d GB\n' "$available"
    if [[ $extent == full ]] && ((available < needed_gb)); then
        echo "missing: a full run needs $needed_gb GB on the disk of $built" >&2
        return 1
    fi
}

begin 'required programs'
check_disk
check_programs
if [[ $extent != without-java ]]; then
    [[ -n ${OCTOPUS_TEST_KAFKA:-} ]] || ci/kafka.sh --jars-only
    ci/python.sh
fi
finish

begin 'formatting'
ci/format.sh
finish

begin 'files, comments, words and duplicates'
ci/style.sh --self-test
ci/style.sh
finish

begin 'the recipe for Spack'
python3 ci/spack/check.py
finish

begin 'pages: links, spelling, form and excerpts'
ci/docs.sh --self-test
ci/docs.sh
finish

begin 'docs/promises.md names existing tests'
ci/promises.sh --self-test
ci/promises.sh
finish

begin 'docs/third-party-licenses.md is up to date'
ci/licenses.sh --self-test
ci/licenses.sh --check
finish

begin 'ABI is compatible'
ci/abi.sh --self-test
ci/abi.sh
finish

begin 'Rust and Python have the types of the header'
ci/bindings.sh --self-test
ci/bindings.sh --check
python3 ci/python-bindings.py --check
finish

# Runs the tests of the Python package on the embedded Kafka, or on OCTOPUS_TEST_KAFKA.
python_tests=(timeout --kill-after=10 600 env PYTHONPATH=plugin-tests/python OCTOPUS_LIBRARY="$built/debug/deps/liboctopus.so"
    python3 -m unittest discover -s plugin-tests/python/tests -t plugin-tests/python)

if [[ $extent == without-java ]]; then
    begin 'unit tests'
    cargo test --workspace --lib --locked
    finish

    begin 'tests that need no real Kafka'
    # Nothing listens there, so that a test which needs a Kafka fails and does not start one.
    OCTOPUS_TEST_KAFKA=127.0.0.1:1 cargo test --workspace --test suite --locked -- --test-threads=4 "${without_kafka[@]}"
    finish

    begin 'the Python package on the embedded Kafka'
    env -u OCTOPUS_TEST_KAFKA "${python_tests[@]}"
    finish

    begin 'quickstart on the embedded Kafka'
    cargo build --workspace --bin quickstart --locked
    "$built/debug/quickstart"
    finish

    begin 'models of concurrent code (loom)'
    cargo test --manifest-path plugin-tests/models/Cargo.toml --locked
    finish
    exit
fi

begin 'documentation of the Rust loader'
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked
finish

begin 'no known vulnerabilities in libraries and crates'
ci/vendored.sh --self-test
ci/vendored.sh
finish

begin 'lints'
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p octopus --all-targets --no-default-features --locked -- -D warnings
cargo clippy -p octopus --no-default-features --features "gssapi,$without_aws" --locked -- -D warnings
# Without the quickstart, which is built with the patches.
cargo clippy --workspace --exclude quickstart --all-targets --no-default-features --features "$unpatched" --locked -- -D warnings
# The first program of a newcomer builds neither TLS nor schemas.
built_by_quickstart=$(cargo tree --locked -p quickstart --edges normal,build --prefix none)
for crate in openssl-sys curl-sys jsonschema aws-config zstd-sys; do
    [[ $built_by_quickstart != *"$crate v"* ]] || { echo "the quickstart builds $crate" >&2 && false; }
done
(cd plugin-tests/python && "$(../../ci/python.sh)" -m mypy --cache-dir=/dev/null)
# Separate workspaces, which are not compiled here; their lock files must be current.
for manifest in plugin-tests/fuzz/Cargo.toml ci/sanitize/planted/Cargo.toml; do
    cargo metadata --locked --format-version 1 --manifest-path "$manifest" >/dev/null
done
finish

# Before the long steps: a change of an included source can make the models fail to compile.
begin 'models of concurrent code (loom)'
cargo test --manifest-path plugin-tests/models/Cargo.toml --locked
finish

begin 'tests on a real Kafka and on the embedded Kafka'
cargo build --workspace --all-targets --locked
rm -rf "$built/tmp/logs"
mkdir -p "$built/tmp/logs"
# The tests mostly wait, so more threads than cores are used.
if [[ $extent == full ]]; then
    cargo test --workspace --locked -- --test-threads=4 2>&1 | tee "$built/tmp/logs/output.log"
else
    mapfile -t skipped < <(printf -- '--skip\n%s\n' "${slow[@]}")
    mapfile -t selected < <(printf -- '-k\n%s\n' "${quick_python[@]}")
    python_tests+=("${selected[@]}")
    cargo test --workspace --lib --bins --locked 2>&1 | tee "$built/tmp/logs/output.log"
    cargo test --workspace --test suite --locked -- --test-threads=6 "${skipped[@]}" 2>&1 | tee -a "$built/tmp/logs/output.log"
fi
finish

begin 'the Python package on a real Kafka'
# The address is the last argument, which with-kafka.sh appends.
ci/with-kafka.sh bash -c 'OCTOPUS_TEST_KAFKA=${!#} "${@:1:$#-1}"' python-tests "${python_tests[@]}" 2>&1 |
    tee "$built/tmp/logs/python.log"
finish

begin 'tests without the feature aws, and without any'
env -u AWS_ACCESS_KEY_ID cargo test -p octopus --lib --no-default-features --features "$without_aws" --locked -- auth config
cargo test -p octopus --lib --no-default-features --locked -- kafka::librdkafka::conf kafka::librdkafka::log_messages needs_its_feature
finish

begin 'no secrets in the output of the tests'
ci/secrets.sh --self-test
ci/secrets.sh "$built/tmp/logs"
finish

begin 'exported symbols (debug build)'
ci/symbols.sh "$built/debug/deps/liboctopus.so"
finish

begin 'the C++ Diaspora API, if it is installed'
ci/diaspora.sh
finish

if [[ $extent == full ]]; then
    begin 'a share of each row of the fault matrix'
    ci/faults.sh --seed 1
    finish

    begin 'release build'
    cargo build --release --locked --workspace --examples
    cargo build --release --locked
    finish

    begin 'Kerberos, if it is installed'
    run_unless_skipped ci/kerberos.sh "$built/release/liboctopus.so"
    finish

    begin 'proxies, if they are installed'
    run_unless_skipped ci/proxies.sh "$built/release/liboctopus.so"
    finish

    begin 'ways to install'
    ci/install-paths.sh
    finish

    begin 'instructions per event'
    ci/instructions.sh
    finish

    begin 'threads and connections'
    ci/resources.sh
    finish

    begin 'unit tests and a part of the suite, with sanitizers'
    run_unless_skipped ci/sanitize.sh address --quick
    finish

    begin 'commands and options of the pages'
    ci/with-kafka.sh ci/docs.sh --run
    finish

    begin 'exported symbols and size (release build)'
    ci/symbols.sh "$built/release/liboctopus.so"
    ci/size.sh "$built/release/liboctopus.so" 16
    ci/size.sh --without-aws 11
    finish

    begin 'quickstart on the embedded Kafka'
    cargo quickstart
    finish

    begin 'quickstart on a real Kafka'
    ci/with-kafka.sh cargo quickstart --kafka
    finish
fi
