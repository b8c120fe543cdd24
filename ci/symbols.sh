#!/usr/bin/env bash
# Checks a built library: its exported symbols are those in ci/exported-symbols.txt, it is never
# unmapped, all of its symbols are resolved when it is loaded, its soname is its file name, and it
# needs no libraries that should be built in.
#
#   ci/symbols.sh target/debug/deps/liboctopus.so
#   ci/symbols.sh LIBRARY --with-diaspora           # a library with the C++ adapter, which needs the API and libstdc++
set -euo pipefail

library=${1:?usage: ci/symbols.sh LIBRARY}
list=$(dirname "$0")/exported-symbols.txt

if ! diff <(nm -D --defined-only "$library" | awk '{print $3}' | sort) <(sort "$list"); then
    echo "$library exports symbols (<) that differ from $list (>)" >&2
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
    # Python loads it with RTLD_LOCAL. It must depend on the API's library itself, or handlers don't
    # match the types of exceptions.
    if [[ $(grep -cE "$needed_by_adapter" <<<"$dynamic") != 2 ]]; then
        echo "$library should need libstdc++ and libdiaspora-stream-api" >&2
        exit 1
    fi
elif grep -E "$needed_by_adapter" <<<"$dynamic"; then
    echo "$library needs libstdc++ or libdiaspora-stream-api, although it has no C++ adapter" >&2
    exit 1
fi
echo "$library: exports the listed symbol, stays mapped, and needs only libraries of the system"
