#!/usr/bin/env bash
# Compares the Python package with confluent-kafka on a Kafka that it starts, by default at
# 1 KB: docs/performance.md. Run it on an otherwise idle machine.
#
#   ci/bench-python.sh [--events N] [--pairs N] [--size BYTES]
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(ci/target.sh)
cargo build --release --locked -p octopus
venv=$built/tools/bench-python
if [[ ! -x $venv/bin/python ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
fi
export OCTOPUS_LIBRARY=$built/release/liboctopus.so PYTHONPATH=plugin-tests/python
export KAFKA_OPTIONS="--set log.segment.delete.delay.ms=1000 ${KAFKA_OPTIONS:-}"
ci/with-kafka.sh "$venv/bin/python" plugin-tests/python/bench.py "$@"
