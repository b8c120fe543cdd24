#!/usr/bin/env bash
# Counts the threads and connections of a program with 7 topics and with 300, on a Kafka of three
# brokers that it starts, and fails if they exceed the limits of docs/performance.md.
#
#   ci/resources.sh [LIBRARY]    the default library is target/release/liboctopus.so
set -euo pipefail
cd "$(dirname "$0")/.."

library=$(realpath "${1:-$(ci/target.sh)/release/liboctopus.so}")
if [[ -z ${INSIDE_KAFKA:-} ]]; then
    exec env INSIDE_KAFKA=1 KAFKA_OPTIONS='--brokers 3' ci/with-kafka.sh "$0" "$library"
fi
readonly bootstrap=$2

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cc -std=c11 -D_GNU_SOURCE -O1 -pthread -Iinclude plugin-tests/hosts/sharing.c -o "$program" -ldl

failed=false
at_most() { # what, figure, limit
    local verdict=holds
    (($2 <= $3)) || { verdict=FAILS && failed=true; }
    printf '%-5s %-75s %4d, limit %d\n' "$verdict" "$1" "$2" "$3"
}

measure() { # topic, topics, consumers
    "$program" "$library" "{\"kafka\": {\"bootstrap.servers\": \"$bootstrap\"}}" "$1" "$2" "$3" 3
}

figures=$(measure seven 7 1)
read -r peak threads connections more_threads more_connections <<<"$figures"
at_most '7 topics with a producer and a consumer: threads while they are created' "$peak" 88
at_most '7 topics with a producer and a consumer: threads' "$threads" 58
at_most '7 topics with a producer and a consumer: connections' "$connections" 36
at_most '10 further producers: threads' "$more_threads" 0
at_most '10 further producers: connections' "$more_connections" 0
figures=$(measure hundreds 300 0)
read -r _ threads _ <<<"$figures"
at_most '300 topics with a producer: threads' "$threads" 20
! $failed
