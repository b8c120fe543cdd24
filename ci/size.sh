#!/usr/bin/env bash
# Checks that a library, without its debug information, is not larger than a limit in MB (10^6
# bytes): docs/decisions/0027-smaller-library.md has the limits, and what the library consists of.
#
#   ci/size.sh LIBRARY LIMIT
#   ci/size.sh --without-aws LIMIT   # builds the release without the feature aws, in place of target/release
set -euo pipefail

library=${1:?usage: ci/size.sh LIBRARY LIMIT}
limit=${2:?usage: ci/size.sh LIBRARY LIMIT}
cd "$(dirname "$0")/.."
if [[ $library == --without-aws ]]; then
    features=$(sed -n 's/^default = \[\(.*\)\]$/\1/p' Cargo.toml | tr -d '" ' | sed 's/\baws,//')
    cargo build --release --locked -p octopus --no-default-features --features "$features"
    library=$(ci/target.sh)/release/liboctopus.so
fi
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip --strip-unneeded -o "$stripped" "$library"
size=$(stat -c %s "$stripped")
if awk -v size="$size" -v limit="$limit" 'BEGIN { exit !(size > limit * 1e6) }'; then
    echo "$library: $size bytes when stripped, more than $limit MB; see docs/decisions/0027-smaller-library.md" >&2
    exit 1
fi
echo "$library: $size bytes when stripped, at most $limit MB"
