#!/usr/bin/env bash
# Builds and runs the fault matrix (docs/reliability.md).
#
#   ci/faults.sh           runs a share of each row: about six minutes without the build
#   ci/faults.sh --full    runs the whole matrix: more than an hour
#   ci/faults.sh --row 4 --seed 77    repeats one run; --help lists all options
#
# Writes the summary to target/tmp/faults/table.md. A failed run leaves its folder and its seed
# there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Without the build, which takes minutes.
if [[ ${1-} == --help ]]; then
    sed -n '/^const USAGE/,/";$/p' plugin-tests/faults/options.rs | sed '1d; s/";$//'
    exit
fi
ci/kafka.sh --jars-only >/dev/null
# Builds the tests, too, since some rows run tests.
cargo build --locked --workspace --all-targets
built=$(ci/target.sh)
mkdir -p "$built/tmp/faults"
exec "$built/debug/faults" --table "$built/tmp/faults/table.md" "$@"
