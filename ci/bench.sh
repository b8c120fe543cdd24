#!/usr/bin/env bash
# Measures Octopus against librdkafka alone, on a Kafka of its own: docs/performance.md. Give it a machine with nothing beside it.
#
#   ci/bench.sh             everything, in pairs: about an hour
#   ci/bench.sh --quick     the main ratios, in some two minutes
#   ci/bench.sh --check     everything, and fails unless the targets hold
#   ci/bench.sh --only push --pairs 4    a part; --help tells the rest
set -euo pipefail
cd "$(dirname "$0")/.."

# All in one build, so that both sides have the same librdkafka.
cargo build --release --locked --workspace --bins
cargo build --release --locked
export OCTOPUS_LIBRARY=$PWD/target/release/liboctopus.so
# Topics of some hundred megabytes come and go.
export KAFKA_OPTIONS="--set log.segment.delete.delay.ms=1000 ${KAFKA_OPTIONS:-}"
exec ci/with-kafka.sh target/release/bench "$@"
