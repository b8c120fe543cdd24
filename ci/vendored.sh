#!/usr/bin/env bash
# Checks the dependencies of Octopus. Lists the C libraries that are compiled into liboctopus.so.
# Fails if a version of a library or a crate has a known vulnerability (ci/vendored), if a list of
# vulnerabilities is older than 90 days, if a crate with C code is not listed here, or if a crate
# has a license or a source that ci/vendored/deny.toml does not allow.
#
#   ci/vendored.sh               runs the checks, as CI does
#   ci/vendored.sh --list        only prints the C libraries and their versions
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

locked() { # crate: prints its version in Cargo.lock
    awk -v name="\"$1\"" '/^name = / { found = $3 == name } found && /^version = / { gsub(/"/, "", $3); print $3; exit }' Cargo.lock
}

macros() { # file prefix name...: prints the values of the macros, joined by dots
    local file=$1 prefix=$2 name joined=
    shift 2
    for name in "$@"; do
        joined+=.$(sed -n "s/^#define $prefix$name *\"\{0,1\}\([0-9][0-9.]*\).*/\1/p" "$file" | head -1)
    done
    echo "${joined#.}"
}

# Prints a line with the name and the version of each library.
libraries() {
    local tree zlib
    tree=$(mktemp -d)
    ci/librdkafka.sh tree "$tree/librdkafka" >/dev/null
    local source=$tree/librdkafka/src
    zlib=$(cargo metadata --locked --format-version 1 | tr ',' '\n' | sed -n 's/^"manifest_path":"\(.*\/libz-sys-[^/]*\)\/Cargo.toml".*/\1/p' | head -1)
    printf '%s %s\n' \
        openssl "$(locked openssl-src | cut -d+ -f2)" \
        curl "$(locked curl-sys | sed 's/.*+curl-//')" \
        zlib "$(macros "$zlib/src/zlib/zlib.h" ZLIB_ VERSION)" \
        zstd "$(locked zstd-sys | sed 's/.*+zstd\.//')" \
        librdkafka "$(locked rdkafka-sys | cut -d+ -f2)" \
        lz4 "$(macros "$source/lz4.h" LZ4_VERSION_ MAJOR MINOR RELEASE)" \
        snappy "$(sed -n 's/.*[Uu]ptodate with snappy \([0-9.]*\).*/\1/p' "$source/snappy.c")" \
        cjson "$(macros "$source/cJSON.h" CJSON_VERSION_ MAJOR MINOR PATCH)" \
        nanopb "$(sed -n 's/^#define NANOPB_VERSION "nanopb-\([0-9.]*\).*/\1/p' "$source/nanopb/pb.h")"
    rm -rf "$tree"
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
    [[ -n $2 ]] || { problem "the version of $1 is not found any more; correct libraries() in ci/vendored.sh" && return; }
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

# Checks the crates that may compile C or link a library, by their names. The crates without a
# comment "listed above" have no C code on Linux.
check_crates() { # Cargo.lock
    local crate
    while read -r crate; do
        case $crate in
            curl-sys | libz-sys | openssl-src | openssl-sys | rdkafka-sys | zstd-sys) ;; # listed above
            ring) ;;                                                                     # in tests only
            linux-raw-sys | psm) ;;                                                      # Rust and a few lines of assembly
            core-foundation-sys | jni-sys | js-sys | security-framework-sys | web-sys | windows-sys) ;; # for other systems
            *) problem "the crate $crate may have C code: list its library in ci/vendored.sh, or add it there as a crate without C code" ;;
        esac
    done < <(sed -n 's/^name = "\(.*\(-sys\|-src\)\|ring\|psm\)"$/\1/p' "$1" | sort -u)
}

check() { # a file with libraries and versions, Cargo.lock
    local library version
    check_age "$known"
    while read -r library version; do
        check_library "$library" "$version"
    done <"$1"
    check_crates "${2:-Cargo.lock}"
}

self_test() {
    local folder expected
    folder=$(mktemp -d)
    printf 'checked %s\nopenssl 3.6.4 CVE-1\nzlib 1.3.3 CVE-2 no matter\n' "$(date -d '-100 days' +%F)" >"$folder/known"
    printf 'openssl 3.6.3\nzlib 1.3.2\nzstd \n' >"$folder/libraries"
    printf 'name = "new-sys"\nname = "ring"\n' >"$folder/lock"
    expected='100 days ago|openssl 3.6.3 has CVE-1|version of zstd is not found|crate new-sys may have C code'
    known=$folder/known check "$folder/libraries" "$folder/lock" >/dev/null 2>"$folder/problems"
    [[ $problems == 4 && $(grep -cE "$expected" "$folder/problems") == 4 ]] || { cat "$folder/problems" >&2 && exit 1; }
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
    echo 'each of 8 deliberate problems is detected, and a correct input has none'
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
    *) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
