#!/usr/bin/env bash
# Checks the dependencies of Octopus: its crates, and the C libraries that are compiled into
# liboctopus.so, which ci/vendored/libraries.toml lists. Fails if a version of a library or a crate
# has a known vulnerability (ci/vendored), if a list of vulnerabilities is older than 90 days, if a
# crate with C code is not listed, or if a crate has a license or a source that
# ci/vendored/deny.toml does not allow.
#
#   ci/vendored.sh               runs the checks, as CI does
#   ci/vendored.sh --list        only prints the C libraries that have advisories, and their versions
#   ci/vendored.sh --self-test   verifies that it detects each of these problems
#
# cargo-deny checks the crates. It is installed if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly max_age_days=90
known=ci/vendored/vulnerabilities.txt
rules=ci/vendored/deny.toml
problems=0

problem() {
    printf 'ci/vendored.sh: %s\n' "$*" >&2
    problems=$((problems + 1))
}

# Prints a line with the name and the version of each library that has advisories.
libraries() {
    python3 ci/vendored/libraries.py
}

is_before() { # version other: whether version is less than other
    [[ $1 != "$2" && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]
}

check_age() { # a list
    local day age
    day=$(sed -n 's/^\(# \)\{0,1\}checked \([0-9-]*\)$/\2/p' "$1")
    [[ -n $day ]] || { problem "$1 has no line \"checked YYYY-MM-DD\"" && return; }
    age=$((($(date +%s) - $(date -d "$day" +%s)) / 86400))
    ((age >= 0)) || problem "$1 was checked on $day, which is in the future: write the date of the latest advisory that was reviewed"
    ((age <= max_age_days)) ||
        problem "$1 was checked $age days ago: review the new advisories, add them, and update the date"
}

check_library() { # library version
    [[ -n $2 ]] || { problem "the version of $1 is not found any more; correct ci/vendored/libraries.toml" && return; }
    local library fixed name reason state=''
    while read -r library fixed name reason; do
        [[ $library == "$1" ]] && is_before "$2" "$fixed" || continue
        if [[ -n $reason ]]; then
            state+="; $name: $reason"
        else
            problem "$1 $2 has $name, which is fixed in $fixed: update it, or write in $known why Octopus is not affected"
        fi
    done <"$known"
    printf '%-12s %-10s %s\n' "$1" "$2" "${state:2}"
}

install_cargo_deny() {
    command -v cargo-deny >/dev/null || cargo install --quiet --locked --debug cargo-deny@0.20.2
}

check_rules() { # Cargo.toml of the workspace
    cargo deny --manifest-path "$1" --locked --log-level error --color never \
        --config "$rules" check --hide-inclusion-graph bans licenses sources ||
        problem "cargo-deny rejects a dependency of $1: replace the crate, or allow it in $rules with the reason"
}

# Checks the crates that may compile C or link a library, by their names: those of the list of
# libraries, those of tests, and those that have no C code on Linux.
check_crates() { # Cargo.lock
    local crate listed
    listed=$(sed -n 's/^\(crate\|linked_by\) = "\(.*\)"$/\2/p' ci/vendored/libraries.toml)
    while read -r crate; do
        ! grep -qxF "$crate" <<<"$listed" || continue
        case $crate in
            ring) ;;                # in tests only
            linux-raw-sys | psm) ;; # Rust and a few lines of assembly
            core-foundation-sys | jni-sys | js-sys | security-framework-sys | web-sys | windows-sys) ;; # for other systems
            *) problem "the crate $crate may have C code: list its library in ci/vendored/libraries.toml, or add it to ci/vendored.sh as a crate without C code" ;;
        esac
    done < <(sed -n 's/^name = "\(.*\(-sys\|-src\)\|ring\|psm\)"$/\1/p' "$1" | sort -u)
}

# A name that is not in the list of libraries would never be compared.
check_names() { # a file with libraries and versions
    local name
    while read -r name; do
        problem "$known has $name, which is no library with a cpe in ci/vendored/libraries.toml"
    done < <(sed '/^#/d; /^checked /d; /^$/d; s/ .*//' "$known" | sort -u | grep -vxFf <(cut -d' ' -f1 "$1"))
}

check() { # a file with libraries and versions, Cargo.lock
    local library version
    check_age "$known"
    check_names "$1"
    while read -r library version; do
        check_library "$library" "$version"
    done <"$1"
    check_crates "${2:-Cargo.lock}"
}

self_test() {
    local folder expected
    folder=$(mktemp -d)
    printf 'checked %s\nopenssl 3.6.4 CVE-1\nzlib 1.3.3 CVE-2 no matter\nother 1 CVE-3\n' "$(date -d '-100 days' +%F)" >"$folder/known"
    printf 'openssl 3.6.3\nzlib 1.3.2\nzstd \n' >"$folder/libraries"
    printf 'name = "new-sys"\nname = "ring"\n' >"$folder/lock"
    expected='100 days ago|openssl 3.6.3 has CVE-1|version of zstd is not found|crate new-sys may have C code|has other, which is no library'
    known=$folder/known check "$folder/libraries" "$folder/lock" >/dev/null 2>"$folder/problems"
    [[ $problems == 5 && $(grep -cE "$expected" "$folder/problems") == 5 ]] || { cat "$folder/problems" >&2 && exit 1; }
    printf 'checked %s\nopenssl 3.6.3 CVE-1\n' "$(date +%F)" >"$folder/known"
    printf 'openssl 3.6.3\nzlib 1.3.10\n' >"$folder/libraries"
    printf 'name = "ring"\n' >"$folder/lock"
    problems=0
    known=$folder/known check "$folder/libraries" "$folder/lock" >/dev/null
    ((problems == 0)) || exit 1
    sed "s/^# checked .*/# checked $(date -d '-100 days' +%F)/; s/^deny = \[/&{ crate = \"libc\" },/; /^ *\"ISC\",/d" "$rules" >"$folder/rules"
    expected="$folder/rules was checked 100 days ago|^error\\[banned\\]: crate 'libc = |^error\\[rejected\\]: failed to satisfy license"
    rules=$folder/rules check_rules Cargo.toml 2>"$folder/problems"
    rules=$folder/rules check_age "$folder/rules" 2>>"$folder/problems"
    printf 'checked %s\n' "$(date -d '+2 days' +%F)" >"$folder/known"
    expected+='|which is in the future'
    check_age "$folder/known" 2>>"$folder/problems"
    [[ $problems == 3 && $(grep -oE "$expected" "$folder/problems" | sort -u | wc -l) == 4 ]] || { cat "$folder/problems" >&2 && exit 1; }
    rm -rf "$folder"
    echo 'each of 9 deliberate problems is detected, and a correct input has none'
}

case ${1:-} in
    '')
        list=$(mktemp)
        libraries >"$list"
        check "$list"
        rm -f "$list"
        check_age "$rules"
        install_cargo_deny
        check_rules Cargo.toml
        ((problems == 0))
        ;;
    --list) libraries ;;
    --self-test) install_cargo_deny && self_test ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
