#!/usr/bin/env bash
# Compares what a built library exports with ci/exported-symbols.txt, and how it asks to be loaded: never unmapped,
# wholly resolved at once, known by its bare name.
#
#   ci/symbols.sh target/debug/deps/liboctopus.so
set -euo pipefail

library=${1:?usage: ci/symbols.sh LIBRARY}
list=$(dirname "$0")/exported-symbols.txt

if ! diff <(nm -D --defined-only "$library" | awk '{print $3}' | sort) <(sort "$list"); then
    echo "$library exports other symbols (<) than $list says (>)" >&2
    exit 1
fi
dynamic=$(readelf -dW "$library")
for wanted in 'NOW' 'NODELETE' '\[liboctopus.so\]'; do
    if ! grep -q "$wanted" <<<"$dynamic"; then
        echo "$library: its dynamic section lacks $wanted:" >&2
        echo "$dynamic" >&2
        exit 1
    fi
done
if grep -E 'NEEDED.*(rdkafka|ssl|crypto|libz|zstd|lz4|sasl|curl)' <<<"$dynamic"; then
    echo "$library needs a library that should be built in" >&2
    exit 1
fi
echo "$library: one symbol, as listed; stays mapped; nothing but the system's libraries needed"
