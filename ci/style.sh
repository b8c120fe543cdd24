#!/usr/bin/env bash
# Checks the form of the sources: length of files, width of comments and pages, words, and blocks
# of code that are written more than once.
#
#   ci/style.sh               runs the checks, as CI does
#   ci/style.sh --accept      takes today's duplicated blocks as the exceptions
#   ci/style.sh --self-test   verifies that each kind of problem is noticed
#
# jscpd finds duplicated blocks, except in the examples, each of which is complete on its own. It is
# installed below the target directory if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly jscpd_version=5.3.2
tools=$(ci/target.sh)/tools/jscpd-$jscpd_version
exceptions=ci/style/duplicates.json

require() { # command, packages: fails if the command is missing
    command -v "$1" >/dev/null && return
    echo "ci/style.sh: $1 is missing; install $2" >&2
    exit 1
}

install_jscpd() {
    [[ -x $tools/node_modules/.bin/jscpd ]] && return
    require npm 'nodejs and npm'
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" --save-exact "jscpd@$jscpd_version" >&2 || {
        echo "ci/style.sh: npm could not install jscpd $jscpd_version in $tools" >&2
        exit 1
    }
}

jscpd() { # argument...: runs jscpd on the sources of this folder
    "$tools/node_modules/.bin/jscpd" --config ci/style/jscpd.json --baseline "$exceptions" "$@" \
        src plugin-tests include ci build.rs
}

duplicates() {
    local log
    log=$(mktemp)
    if ! jscpd --fail-on-new-clones --fail-on-empty --reporters console >"$log" 2>&1; then
        cat "$log" >&2
        rm "$log"
        echo "ci/style.sh: blocks are written more than once: write each once, or ci/style.sh --accept" >&2
        return 1
    fi
    rm "$log"
}

self_test() {
    local copy failed=0
    copy=$(mktemp -d)
    tools=$(realpath -m "$tools")
    git clone --quiet --no-hardlinks . "$copy"
    for file in $(git ls-files --modified --others --exclude-standard); do
        [[ -e $file ]] && mkdir -p "$copy/$(dirname "$file")" && cp "$file" "$copy/$file"
    done
    for file in $(git ls-files --deleted); do rm -f "$copy/$file"; done
    cd "$copy"
    git add --all
    expect() { # problem: the checks notice it
        if python3 ci/style/check.py >/dev/null && duplicates 2>/dev/null; then
            echo "ci/style.sh: $1 is not noticed" >&2
            failed=1
        fi
        git checkout --quiet src
    }
    if ! python3 ci/style/check.py || ! duplicates; then
        echo 'ci/style.sh: the sources themselves have problems, so planted ones prove nothing' >&2
        failed=1
    fi >/dev/null
    printf '// A line.\n%.0s' {1..450} >>src/lib.rs
    expect 'a file of more than 450 lines'
    printf '//%s\n' "$(printf ' word%.0s' {1..30})" >>src/lib.rs
    expect 'a comment of more than 100 columns'
    printf 'fn is_%s() {}\n' to\ld >>src/lib.rs
    expect 'a word inside an identifier'
    sed -n '30,90p' src/support/thread_pool.rs >>src/lib.rs
    expect 'a block that is written twice'
    cd - >/dev/null
    rm -rf "$copy"
    [[ $failed == 0 ]] && echo 'ci/style.sh: each of 4 planted problems is noticed'
}

require python3 python3
case ${1-} in
'' | --accept | --self-test) install_jscpd ;;
esac
case ${1-} in
'') python3 ci/style/check.py && duplicates && echo 'ci/style.sh: no duplicated block beside the exceptions' ;;
--accept) jscpd --update-baseline --reporters silent ;;
--self-test) self_test ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
