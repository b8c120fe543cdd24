#!/usr/bin/env bash
# Everything that must hold before a change lands: the README's test command, and what .ci/run calls.
#
#   ci/test.sh           all of it, from a fresh clone; installs what is missing where it can
#   ci/test.sh --quick   without the release build, sanitizers, and what needs them: some three minutes when built
#
# The tests start a real Kafka on free ports of the loopback and end it, whatever happens to them; with
# OCTOPUS_TEST_KAFKA=host:port they use the one that is there.
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
# What a run from a fresh clone takes, and some more.
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

# What is needed: the command, and Debian's package that has it.
needed=(
    'cc gcc' 'c++ g++' 'make make' 'perl perl' 'java default-jre-headless' 'mvn maven' 'kcat kcat'
    'valgrind valgrind' 'nm binutils' 'setpriv util-linux' 'unshare util-linux' 'javac default-jdk-headless'
    'curl-config libcurl4-openssl-dev' 'python3 python3' 'openssl openssl'
    'abidiff abigail-tools' 'abidw abigail-tools'
)

install_missing() {
    local missing=() entry
    for entry in "${needed[@]}"; do
        command -v "${entry%% *}" >/dev/null || missing+=("${entry##* }")
    done
    # Debian parts Python from what makes environments.
    ! command -v python3 >/dev/null || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [[ ! " ${missing[*]} " =~ ' python3 ' ]] || missing+=(python3-venv)
    if [[ ${#missing[@]} -gt 0 ]]; then
        if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
            echo "missing: install ${missing[*]} (Debian's names)" >&2
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

# Where the disk is full, what fails is rarely what says so.
check_disk() {
    local available
    available=$(($(df --output=avail -k . | tail -1) / 1024 / 1024))
    printf 'free on the disk: %d GB\n' "$available"
    if ! $quick && ((available < needed_gb)); then
        echo "missing: $needed_gb GB on the disk of $PWD" >&2
        return 1
    fi
}

begin 'what the tests need is there'
check_disk
install_missing
if [[ -z ${OCTOPUS_TEST_KAFKA:-} ]]; then
    ci/kafka.sh --jars-only
fi
ci/python.sh
finish

begin 'formatted'
cargo fmt --all -- --check
finish

begin 'each promise has tests that exist'
ci/coverage.sh
finish

begin 'hosts that are built find the ABI as it was'
ci/abi.sh --self-test
ci/abi.sh
finish

begin 'the Rust loader has the types of the header, and documentation'
ci/bindings.sh --self-test
ci/bindings.sh --check
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked -p octopus-loader
finish

begin 'nothing that it is built from is known to be vulnerable'
ci/vendored.sh --self-test
ci/vendored.sh
finish

begin 'no lint finds anything'
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p octopus --all-targets --no-default-features --locked -- -D warnings
cargo clippy --workspace --all-targets --no-default-features --features "$unpatched" --locked -- -D warnings
# Workspaces of their own, which aren't compiled here, but must be able to be.
for manifest in plugin-tests/fuzz/Cargo.toml ci/sanitize/planted/Cargo.toml; do
    cargo metadata --locked --format-version 1 --manifest-path "$manifest" >/dev/null
done
finish

begin 'tests, on a real Kafka and on the embedded one'
cargo build --workspace --all-targets --locked
rm -rf target/tmp/logs
mkdir -p target/tmp/logs
# The tests mostly wait, so more of them than cores run at once.
cargo test --workspace --locked -- --test-threads=4 2>&1 | tee target/tmp/logs/output.log
finish

begin 'a share of each row of the fault matrix'
ci/faults.sh --seed 1
finish

begin 'tests of a build without AWS credential chain, and without any feature'
env -u AWS_ACCESS_KEY_ID cargo test -p octopus --lib --no-default-features --features oidc,patched,tls,zstd --locked -- auth config
cargo test -p octopus --lib --no-default-features --locked -- kafka::conf kafka::log_messages
finish

begin 'models of what threads change without a lock'
cargo test -p octopus --lib --no-default-features --features loom --locked -- models::
finish

begin 'the tests showed no secret'
ci/secrets.sh --self-test
ci/secrets.sh target/tmp/logs
finish

begin 'exported symbols (debug build)'
ci/symbols.sh target/debug/deps/liboctopus.so
finish

begin 'the C++ Diaspora API, where it is installed'
ci/diaspora.sh
finish

if ! $quick; then
    begin 'release build'
    cargo build --release --locked --workspace --examples
    cargo build --release --locked
    finish

    begin 'what an event costs in instructions'
    ci/instructions.sh
    finish

    begin 'threads and connections'
    ci/resources.sh
    finish

    begin 'unit tests and a part of the others, with sanitizers'
    status=0
    ci/sanitize.sh address --quick || status=$?
    # 77: the toolchain has none, as it has said.
    [[ $status != 77 ]] || step="skipped: $step"
    [[ $status == 0 || $status == 77 ]] || exit "$status"
    finish

    begin 'exported symbols (release build)'
    ci/symbols.sh target/release/liboctopus.so
    finish

    begin 'quickstart, without any server'
    cargo run --release --locked --example quickstart
    finish

    begin 'quickstart, on a real Kafka'
    ci/with-kafka.sh cargo run --release --locked --example quickstart -- --kafka
    finish
fi
