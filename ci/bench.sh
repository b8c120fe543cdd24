#!/usr/bin/env bash
# Compares Octopus with librdkafka without Octopus, on a Kafka that it starts: docs/performance.md.
# Run it on an otherwise idle machine.
#
#   ci/bench.sh             measures everything, in pairs of runs: about an hour
#   ci/bench.sh --quick     measures the main ratios, in about two minutes
#   ci/bench.sh --check     measures everything, and fails unless the targets hold
#   ci/bench.sh --only push --pairs 4    measures a part; --help lists all options
#
# If diaspora-stream-api (DIASPORA_PREFIX=/path, or found by pkg-config) and C++ Octopus
# (OCTOPUS_CPP_LIBRARY=/path/liboctopus.so) are installed, both backends are also measured through
# the C++ API.
set -euo pipefail
cd "$(dirname "$0")/.."

built=$(ci/target.sh)
# One build, so that both sides have the same version of librdkafka.
cargo build --release --locked --workspace --bins
through_cpp=()
if [[ -n ${OCTOPUS_CPP_LIBRARY:-} ]]; then
    mkdir -p "$built/bench-cpp"
    cargo build --release --locked -p octopus --features diaspora
    cp "$built/release/liboctopus.so" "$built/bench-cpp/liboctopus.so"
    ci/diaspora.sh --compile plugin-tests/diaspora/bench.cpp "$built/bench-cpp/bench"
    through_cpp=(--cpp "$built/bench-cpp/bench" "$OCTOPUS_CPP_LIBRARY" "$built/bench-cpp/liboctopus.so")
else
    echo 'skipped: the C++ API: OCTOPUS_CPP_LIBRARY is not set to the library of C++ Octopus' >&2
fi
cargo build --release --locked
export OCTOPUS_LIBRARY=$built/release/liboctopus.so
# Deletes the segments of deleted topics at once, since topics have some hundred megabytes.
export KAFKA_OPTIONS="--set log.segment.delete.delay.ms=1000 ${KAFKA_OPTIONS:-}"
ci/with-kafka.sh "$built/release/bench" --out "$built/bench" "${through_cpp[@]}" "$@"
if [[ " $* " == *' --check '* ]]; then
    ci/resources.sh "$OCTOPUS_LIBRARY"
fi
