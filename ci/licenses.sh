#!/usr/bin/env bash
# Writes docs/third-party-licenses.md: the crates and C libraries in liboctopus.so, their versions,
# their licenses, and the texts of these.
#
#   ci/licenses.sh               writes the page
#   ci/licenses.sh --check       fails if the committed page is not what the locked crates give
#   ci/licenses.sh --self-test   verifies that a changed list and a crate without a text are noticed
#
# ci/vendored/deny.toml has the licenses that are allowed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly page=docs/third-party-licenses.md

check() { # page
    if ! python3 ci/licenses/page.py | diff -u --label "$1" --label 'of the locked crates' "$1" -; then
        echo "ci/licenses.sh: $1 is out of date: run ci/licenses.sh and commit the result" >&2
        return 1
    fi
    echo "$1 has the $(grep -c '^| .*(#text-' "$1") crates and libraries of liboctopus.so"
}

self_test() {
    local folder
    folder=$(mktemp -d)
    check "$page" >/dev/null
    # Of a crate with another version, of another license, and of one that is missing.
    sed 's/^| bytes | [0-9.]*/| bytes | 0.0.1/; s/^\(| zlib .*\) Zlib/\1 MIT/; /^| tokio | /d' "$page" >"$folder/page.md"
    ! check "$folder/page.md" >"$folder/report" 2>&1 && [[ $(grep -c '^[+]| \(bytes\|zlib\|tokio\) ' "$folder/report") == 3 ]] ||
        { echo 'ci/licenses.sh: a changed page is not noticed' >&2 && exit 1; }
    sed '/"vsimd":/d' ci/licenses/page.py >"$folder/page.py"
    ! python3 "$folder/page.py" >/dev/null 2>"$folder/report" && grep -q 'vsimd .* has no file' "$folder/report" ||
        { echo 'ci/licenses.sh: a crate without a text is not noticed' >&2 && exit 1; }
    rm -rf "$folder"
    echo 'each of 4 planted problems is noticed'
}

case ${1:-} in
    '')
        text=$(python3 ci/licenses/page.py)
        printf '%s\n' "$text" >"$page"
        ;;
    --check) check "$page" ;;
    --self-test) self_test ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
