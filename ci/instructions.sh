#!/usr/bin/env bash
# Counts the instructions that the plugin's own functions execute for each event, and fails if they
# exceed those in plugin-tests/bench/instructions.json by more than 3 %. Needs valgrind, and about a
# minute without the build.
#
#   ci/instructions.sh
#   ci/instructions.sh --write    writes the current counts to that file, after an accepted increase
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --workspace --bins
cargo build --release --locked
built=$(ci/target.sh)
export OCTOPUS_LIBRARY=$built/release/liboctopus.so
exec "$built/release/bench" --instructions plugin-tests/bench/instructions.json "$@"
