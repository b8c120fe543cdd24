#!/usr/bin/env bash
# Maintains the patch queue, src/kafka/patches: docs/librdkafka.md.
#
#   ci/librdkafka.sh check [NUMBER...]      builds without one fix at a time and verifies that its test fails: half an hour
#   ci/librdkafka.sh check --part I/N       the same for every Nth fix, beginning with the Ith
#   ci/librdkafka.sh bump DIRECTORY         applies the queue to the sources of another librdkafka, and compiles and links the result
#   ci/librdkafka.sh unpatched [FILTER...]  runs the suite on librdkafka as published, without the tests that need patches
#   ci/librdkafka.sh tree DIRECTORY         creates a git repository with a commit for each patch, to change or rebase them
#   ci/librdkafka.sh export DIRECTORY       writes the commits of such a repository as the queue
#   ci/librdkafka.sh compilations LOG...    verifies that each C file of librdkafka was compiled once, from the output
#                                           of `CC_ENABLE_DEBUG_OUTPUT=1 cargo build -vv`
set -euo pipefail
cd "$(dirname "$0")/.."

readonly patches=$PWD/src/kafka/patches
out=$(ci/target.sh)/librdkafka
readonly out
# Without the crates of AWS, which take long to compile and which no test of a patch uses.
readonly features=(--no-default-features --features oidc,patched,tls,zstd)

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
}

queue() {
    cargo run --quiet --locked -p librdkafka-build --bin librdkafka-queue -- "$@"
}

# --- check ----------------------------------------------------------------------------------------

# The `Test:` header of a patch is `unit NAME…`, `suite NAME…` or `faults ARGUMENT…`.
build_test() { # kind
    case $1 in
        unit) cargo test --locked -p octopus "${features[@]}" --lib --no-run ;;
        suite) cargo test --locked -p plugin-tests "${features[@]}" --test suite --no-run ;;
        faults) cargo build --locked -p plugin-tests "${features[@]}" --bin faults ;;
        *) echo "$0: unknown kind of test '$1'; expected unit, suite or faults" >&2 && return 1 ;;
    esac
}

run_test() { # kind, what
    case $1 in
        unit) cargo test --locked -p octopus "${features[@]}" --lib -- --exact "$2" ;;
        suite) cargo test --locked -p plugin-tests "${features[@]}" --test suite -- --exact "$2" ;;
        faults) read -ra arguments <<<"$2" && "$CARGO_TARGET_DIR/debug/faults" "${arguments[@]}" ;;
    esac
}

# Prints the tests of a line one per line, since each is run separately and each must fail.
tests_of() { # kind, rest of the line
    case $1 in
        faults) echo "$2" ;;
        *) tr ' ' '\n' <<<"$2" ;;
    esac
}

# Prints "passed", "failed", or "not run" if the test does not exist.
result_of() { # kind, what, log
    local status=0
    timeout --kill-after=10 900 bash -c "$(declare -f run_test); $(declare -p features); run_test \"\$@\"" _ "$1" "$2" \
        >"$3" 2>&1 </dev/null || status=$?
    if [[ $1 != faults ]] && ! grep -q '^running 1 test$' "$3"; then
        echo 'not run'
    elif [[ $status == 0 ]]; then
        echo passed
    else
        echo failed
    fi
}

check_one() { # number of the fix to leave out or 0 for none, name, kind, rest
    local number=$1 name=$2 kind=$3 rest=$4 expected=failed started=$SECONDS test result log
    [[ $number != 0 ]] || expected=passed
    export OCTOPUS_LIBRDKAFKA_WITHOUT=${number#0}
    if ! build_test "$kind" >"$out/$name.build.log" 2>&1; then
        printf 'WRONG  %s: the build failed: %s\n' "$name" "$out/$name.build.log"
        return 1
    fi
    while read -r test; do
        log=$out/$name.$(tr -c 'a-z0-9_\n' '-' <<<"$test").log
        result=$(result_of "$kind" "$test" "$log")
        if [[ $result != "$expected" ]]; then
            printf 'WRONG  %s: %s %s has %s, expected: %s; see %s\n' "$name" "$kind" "$test" "$result" "$expected" "$log"
            return 1
        fi
        printf '%-6s %s: %s %s (%d s)\n' "$result" "$name" "$kind" "$test" $((SECONDS - started))
    done < <(tests_of "$kind" "$rest")
}

check() { # numbers, or --part I/N
    local part=0 parts=1 wanted=() wrong=0 count=0 number kind name test test_kind started=$SECONDS
    if [[ ${1:-} == --part ]]; then
        [[ ${2:-} =~ ^([0-9]+)/([0-9]+)$ ]] || usage
        part=$((BASH_REMATCH[1] - 1)) parts=${BASH_REMATCH[2]}
    else
        wanted=("$@")
    fi
    mkdir -p "$out"
    ci/kafka.sh --jars-only >/dev/null
    export CARGO_TARGET_DIR=$out/target
    local fixes=()
    while IFS=$'\t' read -r number kind name test; do
        [[ $kind == fix ]] || continue
        [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $number "* ]] || continue
        [[ $((count++ % parts)) == "$part" ]] || continue
        fixes+=("$number"$'\t'"$name"$'\t'"$test")
    done < <(queue list "$patches")
    [[ ${#fixes[@]} -gt 0 ]] || { echo "$0: no fix has the given numbers" >&2 && exit 2; }

    echo '--- with all patches: each test passes'
    while IFS=$'\t' read -r number name test; do
        test_kind=${test%% *}
        check_one 0 "$name" "$test_kind" "${test#* }" || wrong=1
    done < <(printf '%s\n' "${fixes[@]}")
    [[ $wrong == 0 ]] || exit 1

    echo '--- without one fix: its test fails'
    while IFS=$'\t' read -r number name test; do
        check_one "$number" "$name" "${test%% *}" "${test#* }" || wrong=1
    done < <(printf '%s\n' "${fixes[@]}")
    printf '%d fixes in %d s: %s\n' "${#fixes[@]}" $((SECONDS - started)) "$([[ $wrong == 0 ]] && echo 'each test fails without its fix' || echo WRONG)"
    return "$wrong"
}

# --- bump -----------------------------------------------------------------------------------------

bump() { # directory
    local report
    [[ -f $1/src/rdkafka.h ]] || { echo "$0: $1 is not librdkafka: it has no src/rdkafka.h" >&2 && exit 2; }
    report=$(queue report "$patches" "$1")
    sed '/^left out: /d' <<<"$report"
    local left_out
    left_out=$(sed -n 's/^left out: //p' <<<"$report")
    mkdir -p "$out"
    if OCTOPUS_LIBRDKAFKA_SOURCES=$(realpath "$1") OCTOPUS_LIBRDKAFKA_WITHOUT=$left_out CARGO_TARGET_DIR=$out/bump \
        cargo build --locked -p octopus "${features[@]}" >"$out/bump.log" 2>&1; then
        printf '\nWith the patches that apply, librdkafka compiles and the library links.\n'
    else
        printf '\nWith the patches that apply, the build fails:\n\n'
        grep -E 'error|undefined' "$out/bump.log" | head -20
        return 1
    fi
}

# --- unpatched ------------------------------------------------------------------------------------

# docs/librdkafka.md has a table of the tests that need patches: | `test` | the patch |
unpatched() { # filters
    local skips=() name
    while read -r name; do
        printf 'skipped: %s: it needs a patch (docs/librdkafka.md, "Without patches")\n' "$name"
        skips+=(--skip "$name")
    done < <(sed -n '/^## Without patches/,/^## /s/^| `\([a-z_:]*\)` |.*/\1/p' docs/librdkafka.md)
    ci/kafka.sh --jars-only >/dev/null
    export CARGO_TARGET_DIR=$out/unpatched
    local packages=(--locked -p octopus -p plugin-tests --no-default-features
        --features plugin-tests/aws,plugin-tests/oidc,plugin-tests/schema,plugin-tests/tls,plugin-tests/topic-service,plugin-tests/zstd)
    # Tests run the examples.
    cargo build "${packages[@]}" --all-targets
    cargo test "${packages[@]}" --lib --test suite -- --test-threads=4 "${skips[@]}" "$@"
}

# --- tree and export ------------------------------------------------------------------------------

# The subject of a commit is the name of the patch without its number, the body is the header of the
# patch.
tree() { # directory
    [[ ! -e $1 ]] || { echo "$0: $1 exists" >&2 && exit 2; }
    local patch name
    mkdir -p "$1"
    cp -r "$(queue sources)/src" "$1/"
    git -C "$1" init --quiet
    git -C "$1" add --all
    commit "$1" 'librdkafka as published'
    git -C "$1" tag published
    for patch in "$patches"/*.patch; do
        name=$(basename "$patch" .patch)
        git -C "$1" apply --index "$patch"
        commit "$1" "${name#*-}"$'\n\n'"$(sed '/^$/,$d' "$patch")"
    done
    printf '%s: librdkafka, with a commit for each patch since the tag "published"\n' "$1"
}

commit() { # directory, message
    git -C "$1" -c user.name=octopus -c user.email=octopus@localhost commit --quiet --allow-empty-message -m "$2"
}

export_queue() { # directory
    local number=0 commit name
    rm -f "$patches"/*.patch
    for commit in $(git -C "$1" rev-list --reverse published..HEAD); do
        number=$((number + 1))
        name=$(printf '%04d-%s' "$number" "$(git -C "$1" log -1 --format=%s "$commit")")
        {
            git -C "$1" log -1 --format=%b "$commit" | sed -e '/^$/d'
            echo
            git -C "$1" diff --no-color --src-prefix=a/ --dst-prefix=b/ "$commit^" "$commit" | sed -e '/^diff --git /d' -e '/^index /d' -e '/^new file mode /d'
        } >"$patches/$name.patch"
    done
    printf '%d patches written to %s\n' "$number" "$patches"
}

# --- compilations ---------------------------------------------------------------------------------

# The crate cc prints `running: … "-c" "…/librdkafka/src/rdkafka.c"` for each run of the compiler.
compilations() { # logs
    local compiled once
    compiled=$(cat "$@" | grep -F '"-c"' | grep -oE 'librdkafka/src/[a-z0-9_./]+\.c"' | sort || true)
    once=$(uniq <<<"$compiled")
    printf '%d C files of librdkafka, compiled %d times\n' "$(grep -c . <<<"$once")" "$(grep -c . <<<"$compiled")"
    if [[ -z $compiled || $compiled != "$once" ]]; then
        echo 'more than once:' >&2
        uniq -d <<<"$compiled" >&2
        return 1
    fi
}

case ${1:-} in
    check) check "${@:2}" ;;
    bump) [[ $# == 2 ]] || usage; bump "$2" ;;
    unpatched) unpatched "${@:2}" ;;
    tree) [[ $# == 2 ]] || usage; tree "$2" ;;
    export) [[ $# == 2 ]] || usage; export_queue "$2" ;;
    compilations) [[ $# -ge 2 ]] || usage; compilations "${@:2}" ;;
    *) usage ;;
esac
