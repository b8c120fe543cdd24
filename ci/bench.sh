#!/usr/bin/env bash
# Measures Octopus against librdkafka alone, on a Kafka of its own: docs/performance.md. Give it a machine with nothing beside it.
#
#   ci/bench.sh             everything, in pairs: about an hour
#   ci/bench.sh --quick     the main ratios, in some two minutes
#   ci/bench.sh --check     everything, and fails unless the targets hold
#   ci/bench.sh --only push --pairs 4    a part; --help tells the rest
# Where diaspora-stream-api (DIASPORA_PREFIX=/path, or by pkg-config) and C++ Octopus (OCTOPUS_CPP_LIBRARY=/path/liboctopus.so) are
# installed, both backends are measured through the C++ API, too.
set -euo pipefail
cd "$(dirname "$0")/.."

# All in one build, so that both sides have the same librdkafka.
cargo build --release --locked --workspace --bins
through_cpp=()
if [[ -n ${OCTOPUS_CPP_LIBRARY:-} ]]; then
    mkdir -p target/bench-cpp
    cargo build --release --locked -p octopus --features diaspora
    cp target/release/liboctopus.so target/bench-cpp/liboctopus.so
    ci/diaspora.sh --compile plugin-tests/diaspora/bench.cpp target/bench-cpp/bench
    through_cpp=(--cpp target/bench-cpp/bench "$OCTOPUS_CPP_LIBRARY" "$PWD/target/bench-cpp/liboctopus.so")
else
    echo 'skipped: the C++ API: OCTOPUS_CPP_LIBRARY names no C++ Octopus' >&2
fi
cargo build --release --locked
export OCTOPUS_LIBRARY=$PWD/target/release/liboctopus.so
# Topics of some hundred megabytes come and go.
export KAFKA_OPTIONS="--set log.segment.delete.delay.ms=1000 ${KAFKA_OPTIONS:-}"
ci/with-kafka.sh target/release/bench "${through_cpp[@]}" "$@"
if [[ " $* " == *' --check '* ]]; then
    ci/resources.sh "$OCTOPUS_LIBRARY"
fi
