#!/usr/bin/env bash
# The fault matrix (docs/reliability.md): builds what it needs, and runs it.
#
#   ci/faults.sh           a share of each row: some six minutes when built
#   ci/faults.sh --full    the whole matrix: more than an hour
#   ci/faults.sh --row 4 --seed 77    one run again; --help tells the rest
#
# The summary is kept in target/tmp/faults/table.md. A run that failed leaves its folder there, and its seed.
set -euo pipefail
cd "$(dirname "$0")/.."

ci/kafka.sh --jars-only >/dev/null
# The tests, too, because some rows are tests.
cargo build --locked --workspace --all-targets
mkdir -p target/tmp/faults
exec target/debug/faults --table target/tmp/faults/table.md "$@"
