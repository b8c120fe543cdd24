#!/usr/bin/env bash
# Counts the instructions that an event costs in our own functions, and fails if they are over 3 % more than
# plugin-tests/bench/instructions.json says. Takes valgrind, and a minute when built.
#
#   ci/instructions.sh
#   ci/instructions.sh --write    what they are now, after a change that is worth it
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --workspace --bins
cargo build --release --locked
export OCTOPUS_LIBRARY=$PWD/target/release/liboctopus.so
exec target/release/bench --instructions plugin-tests/bench/instructions.json "$@"
