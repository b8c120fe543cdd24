#!/usr/bin/env bash
# Compares what a built library exports with ci/exported-symbols.txt, and how it asks to be loaded: never unmapped,
# wholly resolved at once, known by its bare name.
#
#   ci/symbols.sh target/debug/deps/liboctopus.so
#   ci/symbols.sh LIBRARY --with-diaspora           # one with the C++ adapter, which needs that API and libstdc++
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
needed_by_adapter='NEEDED.*(stdc\+\+|diaspora-stream-api)'
if [[ ${2:-} == --with-diaspora ]]; then
    # Python loads it with RTLD_LOCAL: exceptions are caught by their types only if it names the API's library itself.
    if [[ $(grep -cE "$needed_by_adapter" <<<"$dynamic") != 2 ]]; then
        echo "$library should need libstdc++ and libdiaspora-stream-api" >&2
        exit 1
    fi
elif grep -E "$needed_by_adapter" <<<"$dynamic"; then
    echo "$library needs what only one with the C++ adapter should" >&2
    exit 1
fi
echo "$library: one symbol, as listed; stays mapped; nothing but the system's libraries needed"
