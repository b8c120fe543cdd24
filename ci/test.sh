#!/usr/bin/env bash
# Runs all checks that must pass before a change is merged: the README's test command, and the
# script of .ci/run.
#
#   ci/test.sh           runs all checks, also in a fresh clone; installs missing programs if it can
#   ci/test.sh --quick   leaves out the release build, the sanitizers and checks that need them: about three minutes when built
#
# The tests start a real Kafka on free loopback ports and stop it, even if they fail. With
# OCTOPUS_TEST_KAFKA=host:port they use that Kafka.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
case "${1:-}" in
    --quick) quick=true ;;
    '') ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
readonly unpatched=plugin-tests/aws,plugin-tests/oidc,plugin-tests/tls,plugin-tests/zstd
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
    'cc gcc' 'c++ g++' 'make make' 'perl perl' 'java default-jre-headless' 'mvn maven' 'kcat kcat'
    'valgrind valgrind' 'nm binutils' 'setpriv util-linux' 'unshare util-linux' 'javac default-jdk-headless'
    'curl-config libcurl4-openssl-dev' 'python3 python3' 'openssl openssl'
    'abidiff abigail-tools' 'abidw abigail-tools' 'node nodejs' 'npm npm'
)

install_missing() {
    local missing=() entry
    for entry in "${needed[@]}"; do
        command -v "${entry%% *}" >/dev/null || missing+=("${entry##* }")
    done
    # On Debian, venv is in a separate package.
    ! command -v python3 >/dev/null || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [[ ! " ${missing[*]} " =~ ' python3 ' ]] || missing+=(python3-venv)
    if [[ ${#missing[@]} -gt 0 ]]; then
        if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
            echo "missing: install ${missing[*]} (names of Debian packages)" >&2
            return 1
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    for entry in cargo rustfmt cargo-clippy; do
        command -v "$entry" >/dev/null || {
            echo "missing: $entry; install Rust (rust-version in Cargo.toml) with rustfmt and clippy by rustup" >&2
            return 1
        }
    done
    cargo --version
    java -version 2>&1 | head -1
    kcat -V | head -1
}

# Checked first, since the errors of a full disk rarely name it.
check_disk() {
    local available
    available=$(($(df --output=avail -k . | tail -1) / 1024 / 1024))
    printf 'free on the disk: %d GB\n' "$available"
    if ! $quick && ((available < needed_gb)); then
        echo "missing: a full run needs $needed_gb GB on the disk of $PWD" >&2
        return 1
    fi
}

begin 'required programs'
check_disk
install_missing
if [[ -z ${OCTOPUS_TEST_KAFKA:-} ]]; then
    ci/kafka.sh --jars-only
fi
ci/python.sh
finish

begin 'formatting'
cargo fmt --all -- --check
cargo fmt --manifest-path plugin-tests/models/Cargo.toml -- --check
finish

begin 'files, comments, words and duplicates'
ci/style.sh --self-test
ci/style.sh
finish

begin 'docs/coverage.md names existing tests'
ci/coverage.sh
finish

begin 'ABI is compatible'
ci/abi.sh --self-test
ci/abi.sh
finish

begin 'the Rust loader has the types of the header, and documentation'
ci/bindings.sh --self-test
ci/bindings.sh --check
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked
finish

begin 'no known vulnerabilities in libraries and crates'
ci/vendored.sh --self-test
ci/vendored.sh
finish

begin 'lints'
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p octopus --all-targets --no-default-features --locked -- -D warnings
cargo clippy --workspace --all-targets --no-default-features --features "$unpatched" --locked -- -D warnings
# Separate workspaces, which are not compiled here; their lock files must be current.
for manifest in plugin-tests/fuzz/Cargo.toml ci/sanitize/planted/Cargo.toml; do
    cargo metadata --locked --format-version 1 --manifest-path "$manifest" >/dev/null
done
finish

begin 'tests on a real Kafka and on the embedded Kafka'
cargo build --workspace --all-targets --locked
rm -rf target/tmp/logs
mkdir -p target/tmp/logs
# The tests mostly wait, so more threads than cores are used.
cargo test --workspace --locked -- --test-threads=4 2>&1 | tee target/tmp/logs/output.log
finish

begin 'a share of each row of the fault matrix'
ci/faults.sh --seed 1
finish

begin 'tests without the feature aws, and without any'
env -u AWS_ACCESS_KEY_ID cargo test -p octopus --lib --no-default-features --features oidc,patched,tls,zstd --locked -- auth config
cargo test -p octopus --lib --no-default-features --locked -- kafka::librdkafka::conf kafka::librdkafka::log_messages
finish

begin 'models of concurrent code (loom)'
cargo test --manifest-path plugin-tests/models/Cargo.toml --locked
finish

begin 'no secrets in the output of the tests'
ci/secrets.sh --self-test
ci/secrets.sh target/tmp/logs
finish

begin 'exported symbols (debug build)'
ci/symbols.sh target/debug/deps/liboctopus.so
finish

begin 'the C++ Diaspora API, if it is installed'
ci/diaspora.sh
finish

if ! $quick; then
    begin 'release build'
    cargo build --release --locked --workspace --examples
    cargo build --release --locked
    finish

    begin 'instructions per event'
    ci/instructions.sh
    finish

    begin 'threads and connections'
    ci/resources.sh
    finish

    begin 'unit tests and a part of the suite, with sanitizers'
    status=0
    ci/sanitize.sh address --quick || status=$?
    # 77: the toolchain has no sanitizers.
    [[ $status != 77 ]] || step="skipped: $step"
    [[ $status == 0 || $status == 77 ]] || exit "$status"
    finish

    begin 'exported symbols (release build)'
    ci/symbols.sh target/release/liboctopus.so
    finish

    begin 'quickstart on the embedded Kafka'
    cargo run --release --locked --example quickstart
    finish

    begin 'quickstart on a real Kafka'
    ci/with-kafka.sh cargo run --release --locked --example quickstart -- --kafka
    finish
fi
