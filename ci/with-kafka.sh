#!/usr/bin/env bash
# Runs a command with a Kafka's host:port as its last argument, and ends that Kafka afterwards, whatever happens.
# With OCTOPUS_TEST_KAFKA=host:port it uses the one that is there, unless KAFKA_OPTIONS has options for ci/kafka.sh.
#
#   ci/with-kafka.sh cargo run --release --example quickstart -- --kafka
set -euo pipefail

if [[ -n ${OCTOPUS_TEST_KAFKA:-} && -z ${KAFKA_OPTIONS:-} ]]; then
    exec "$@" "$OCTOPUS_TEST_KAFKA"
fi

# Kafka ends when the last writer to its standard input is gone: this script.
read -ra options <<<"${KAFKA_OPTIONS:-}"
coproc KAFKA { exec "$(dirname "$0")/kafka.sh" "${options[@]}"; }
kafka=$KAFKA_PID
end_kafka() {
    if kill -0 "$kafka" 2>/dev/null; then
        kill -TERM "$kafka" && wait "$kafka" || true
    fi
}
trap end_kafka EXIT

read -r ready bootstrap <&"${KAFKA[0]}" || true
if [[ ${ready:-} != READY ]]; then
    echo "ci/with-kafka.sh: Kafka did not start; see above" >&2
    exit 1
fi
"$@" "$bootstrap"
