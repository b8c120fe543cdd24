#!/usr/bin/env bash
# Fuzzes what strangers can hand to Octopus, with libFuzzer and the address sanitizer: records, configuration, components,
# the structs of the C ABI, and record batches for librdkafka's reader (src/fuzz, plugin-tests/fuzz).
#
#   ci/fuzz.sh TARGET|all [--runs N]    N inputs each, ten million if not said; ends at the first that breaks a promise
#   ci/fuzz.sh TARGET|all --minimize    the fewest inputs that reach what was ever reached, as the corpus to be committed
#
# What is found is kept in target/fuzz: an input that breaks a promise in TARGET/broken, new ones worth having in
# TARGET/corpus. The corpus that is committed is replayed by `cargo test -p octopus --lib fuzz`, without any of this.
# Takes a nightly Rust, or a stable one made to act as one, and cargo-fuzz, which is installed if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly most_files=200 # of a committed corpus

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
}

targets=$(sed -n 's/^name = "\([a-z]*\)"$/\1/p' plugin-tests/fuzz/Cargo.toml)
runs=10000000
minimize=false
chosen=${1:-}
[[ -n $chosen ]] || usage
shift
while [[ $# -gt 0 ]]; do
    case $1 in
        --runs) runs=${2:?--runs needs a number}; shift ;;
        --minimize) minimize=true ;;
        *) usage ;;
    esac
    shift
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || { echo "--runs $runs: expected a number above 0" >&2; exit 2; }
if [[ $chosen == all ]]; then
    read -ra chosen <<<"${targets//$'\n'/ }"
elif grep -qx "$chosen" <<<"$targets"; then
    chosen=("$chosen")
else
    echo "there is no target $chosen; expected all, or one of ${targets//$'\n'/, }" >&2
    exit 2
fi

# Sanitizers are unstable: a nightly has them, and a stable compiler that is told to act as one, if it was shipped with their
# library.
if rustup run nightly rustc --version >/dev/null 2>&1; then
    toolchain=nightly
elif compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null; then
    toolchain=$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1)
    export RUSTC_BOOTSTRAP=1
else
    echo 'missing: a nightly Rust for the address sanitizer; install it by: rustup toolchain install nightly' >&2
    exit 1
fi
command -v c++ >/dev/null || { echo 'missing: c++, which libFuzzer is compiled with; install g++ (Debian)' >&2; exit 1; }
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked

printf '=== building with %s ===\n' "$(rustc ${toolchain:++$toolchain} --version)"
# The C code is sanitized too: the crate cc takes the sanitizer from the flags of rustc. What is reached in librdkafka is counted
# by a call at each branch, since gcc has no counters that libFuzzer knows.
(cd plugin-tests/fuzz && cargo fetch --locked --quiet &&
    RUSTC_WRAPPER="$PWD/../../ci/fuzz/rustc" \
        OCTOPUS_LIBRDKAFKA_CFLAGS='-fsanitize-coverage=trace-pc' \
        cargo ${toolchain:++$toolchain} fuzz build --fuzz-dir .)
host=$(rustc -vV | sed -n 's/^host: //p')
programs=plugin-tests/fuzz/target/$host/release

longest() { # bytes of an input, beyond which nothing new is to be found
    case $1 in
        abi) echo 400 ;;
        batches) echo 4000 ;;
        record | components) echo 600 ;;
        *) echo 1500 ;;
    esac
}

fuzz() { # target
    local target=$1 work=target/fuzz/$1 dictionary=plugin-tests/fuzz/dictionaries/$1.dict options
    mkdir -p "$work/broken"
    options=(-max_len="$(longest "$target")" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1)
    # Threads of Octopus allocate beside each input, so leaks are only looked for in the end.
    [[ $target != abi && $target != batches ]] || options+=(-detect_leaks=0)
    [[ ! -f $dictionary ]] || options+=(-dict="$dictionary")
    if "$programs/$target" "${options[@]}" -runs="$runs" -artifact_prefix="$work/broken/" \
        "$work/corpus" "plugin-tests/fuzz/corpus/$target" 2>&1 |
        tee "$work/log" | grep --line-buffered -E 'INITED|pulse|DONE|ERROR|panicked|SUMMARY|Test unit written'; then
        return 0
    fi
    echo "ci/fuzz.sh: $target broke a promise; all that was said is in $work/log, the input in $work/broken" >&2
    return 1
}

minimize() { # target
    local target=$1 work=target/fuzz/$1 corpus=plugin-tests/fuzz/corpus/$1 count
    mkdir -p "$work/corpus"
    # A copy, since a fuzzer that runs replaces its inputs by shorter ones.
    rm -rf "$work/fewest" "$work/all"
    mkdir -p "$work/fewest" "$work/all"
    find "$work/corpus" -type f -exec cp -t "$work/all" {} + 2>/dev/null || true
    # Those written by hand have names, and stay; the others are called by their hash.
    find "$corpus" -type f -not -regex '.*/[0-9a-f]+' -exec cp {} "$work/fewest" \;
    "$programs/$target" -set_cover_merge=1 -max_len="$(longest "$target")" "$work/fewest" "$corpus" "$work/all" \
        >"$work/merge.log" 2>&1 || { echo "ci/fuzz.sh: merging failed; see $work/merge.log" >&2; return 1; }
    # Of those that are too many, some of each size: small ones say what they try, large ones go far.
    count=$(find "$work/fewest" -type f -regex '.*/[0-9a-f]+' | wc -l)
    local room=$((most_files - $(find "$work/fewest" -type f | wc -l) + count))
    find "$work/fewest" -type f -regex '.*/[0-9a-f]+' -printf '%s %p\n' | sort -n |
        awk -v count="$count" -v room="$room" 'int(NR * room / count) == int((NR - 1) * room / count) { print $2 }' | xargs -r rm
    rm -rf "$corpus"
    mv "$work/fewest" "$corpus"
    printf '%s: %d files, %d bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" "$(cat "$corpus"/* | wc -c)"
}

kept() { # target: how many inputs were ever worth keeping
    find "target/fuzz/$1/corpus" -type f | wc -l
}

summary=()
status=0
for target in "${chosen[@]}"; do
    printf '\n=== %s ===\n' "$target"
    if $minimize; then
        minimize "$target" || status=1
        continue
    fi
    result=passed
    started=$SECONDS
    mkdir -p "target/fuzz/$target/corpus"
    before=$(kept "$target")
    fuzz "$target" || { result=FAILED; status=1; }
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$target/log")
    summary+=("$(printf '%-14s %10s inputs %6d s %6d new in the corpus   %s' "$target" "${done_runs:-?}" \
        $((SECONDS - started)) $(($(kept "$target") - before)) "$result")")
done
if ! $minimize; then
    printf '\n=== summary ===\n'
    printf '%s\n' "${summary[@]}"
fi
exit "$status"
