#!/usr/bin/env bash
# Starts a Kafka, runs a command with its host:port as the last argument, and stops the Kafka even
# if the command fails. With OCTOPUS_TEST_KAFKA=host:port it uses that Kafka, unless KAFKA_OPTIONS
# has options for ci/kafka.sh.
#
#   ci/with-kafka.sh cargo quickstart --kafka
set -euo pipefail

if [[ -n ${OCTOPUS_TEST_KAFKA:-} && -z ${KAFKA_OPTIONS:-} ]]; then
    exec "$@" "$OCTOPUS_TEST_KAFKA"
fi

# kafka.sh stops when its standard input closes, which happens at the latest when this script ends.
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
