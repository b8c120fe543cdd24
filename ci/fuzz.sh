#!/usr/bin/env bash
# Fuzzes the parsers of untrusted input with libFuzzer and the address sanitizer: records,
# configuration, components, the structs of the C ABI, and record batches in librdkafka (src/fuzz,
# plugin-tests/fuzz).
#
#   ci/fuzz.sh TARGET|all [--runs N]    runs N inputs per target (default: ten million), up to the first failure
#   ci/fuzz.sh TARGET|all --minimize    reduces the corpus to the fewest inputs with the same coverage, to be committed
#
# Results are in target/fuzz: failing inputs in TARGET/broken, inputs with new coverage in
# TARGET/corpus. The committed corpus is replayed by `cargo test -p octopus --lib fuzz`, which needs
# none of these tools. Needs a nightly Rust, or a stable one with RUSTC_BOOTSTRAP, and cargo-fuzz,
# which is installed if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly max_files=200 # per target in the committed corpus

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
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
    echo "unknown target $chosen; expected all or one of ${targets//$'\n'/, }" >&2
    exit 2
fi

# Sanitizers are unstable features: a nightly compiler has them, and a stable one with
# RUSTC_BOOTSTRAP=1, if it is shipped with the sanitizer's runtime.
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
# The C code is sanitized, too: the crate cc takes the sanitizer from the flags of rustc. The
# coverage of librdkafka is measured by a call at each branch, since gcc does not have the inline
# counters of libFuzzer.
(cd plugin-tests/fuzz && cargo fetch --locked --quiet &&
    RUSTC_WRAPPER="$PWD/../../ci/fuzz/rustc" \
        OCTOPUS_LIBRDKAFKA_CFLAGS='-fsanitize-coverage=trace-pc' \
        cargo ${toolchain:++$toolchain} fuzz build --fuzz-dir .)
host=$(rustc -vV | sed -n 's/^host: //p')
results=$(ci/target.sh)/fuzz
programs=$(ci/target.sh plugin-tests/fuzz)/$host/release

max_length() { # target: the size of an input above which no new coverage is found
    case $1 in
        abi) echo 400 ;;
        batches) echo 4000 ;;
        record | components) echo 600 ;;
        *) echo 1500 ;;
    esac
}

fuzz() { # target
    local target=$1 work=$results/$1 dictionary=plugin-tests/fuzz/dictionaries/$1.dict options
    mkdir -p "$work/broken"
    options=(-max_len="$(max_length "$target")" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1)
    # Threads of Octopus allocate while an input runs, so leaks are checked at the end only.
    [[ $target != abi && $target != batches ]] || options+=(-detect_leaks=0)
    [[ ! -f $dictionary ]] || options+=(-dict="$dictionary")
    if "$programs/$target" "${options[@]}" -runs="$runs" -artifact_prefix="$work/broken/" \
        "$work/corpus" "plugin-tests/fuzz/corpus/$target" 2>&1 |
        tee "$work/log" | grep --line-buffered -E 'INITED|pulse|DONE|ERROR|panicked|SUMMARY|Test unit written'; then
        return 0
    fi
    echo "ci/fuzz.sh: $target failed; the output is in $work/log, the input in $work/broken" >&2
    return 1
}

minimize() { # target
    local target=$1 work=$results/$1 corpus=plugin-tests/fuzz/corpus/$1 count
    mkdir -p "$work/corpus"
    # A copy, since a running fuzzer replaces inputs by shorter ones.
    rm -rf "$work/fewest" "$work/all"
    mkdir -p "$work/fewest" "$work/all"
    find "$work/corpus" -type f -exec cp -t "$work/all" {} + 2>/dev/null || true
    # Inputs that were written by hand have names, and are kept. The names of the others are their
    # hashes.
    find "$corpus" -type f -not -regex '.*/[0-9a-f]+' -exec cp {} "$work/fewest" \;
    "$programs/$target" -set_cover_merge=1 -max_len="$(max_length "$target")" "$work/fewest" "$corpus" "$work/all" \
        >"$work/merge.log" 2>&1 || { echo "ci/fuzz.sh: merging failed; see $work/merge.log" >&2; return 1; }
    # Above the limit, keeps inputs evenly over all sizes: small ones are readable, large ones have
    # more coverage.
    count=$(find "$work/fewest" -type f -regex '.*/[0-9a-f]+' | wc -l)
    local allowed=$((max_files - $(find "$work/fewest" -type f | wc -l) + count))
    find "$work/fewest" -type f -regex '.*/[0-9a-f]+' -printf '%s %p\n' | sort -n |
        awk -v count="$count" -v allowed="$allowed" 'int(NR * allowed / count) == int((NR - 1) * allowed / count) { print $2 }' | xargs -r rm
    rm -rf "$corpus"
    mv "$work/fewest" "$corpus"
    printf '%s: %d files, %d bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" "$(cat "$corpus"/* | wc -c)"
}

corpus_size() { # target: the number of inputs in its corpus
    find "$results/$1/corpus" -type f | wc -l
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
    mkdir -p "$results/$target/corpus"
    before=$(corpus_size "$target")
    fuzz "$target" || { result=FAILED; status=1; }
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$results/$target/log")
    summary+=("$(printf '%-14s %10s inputs %6d s %6d new in the corpus   %s' "$target" "${done_runs:-?}" \
        $((SECONDS - started)) $(($(corpus_size "$target") - before)) "$result")")
done
if ! $minimize; then
    printf '\n=== summary ===\n'
    printf '%s\n' "${summary[@]}"
fi
exit "$status"
