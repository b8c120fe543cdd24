#!/usr/bin/env bash
# Prints the folder that cargo builds into: CARGO_TARGET_DIR, `build.target-dir` of cargo's
# configuration, or `target`.
#
#   ci/target.sh             of this repository's workspace
#   ci/target.sh FOLDER      of the workspace in FOLDER of the repository
set -euo pipefail
cd "$(dirname "$0")/../${1-}"

# Without cargo, too: ci/kafka.sh needs no Rust.
if [[ -n ${CARGO_TARGET_DIR-} ]] || ! command -v cargo >/dev/null; then
    realpath -m "${CARGO_TARGET_DIR:-target}"
    exit
fi
metadata=$(cargo metadata --offline --no-deps --format-version 1)
folder=${metadata#*\"target_directory\":\"}
echo "${folder%%\"*}"
