#!/usr/bin/env bash
# Runs the tests with a plugin that is compiled with AddressSanitizer (and LeakSanitizer, and
# UndefinedBehaviorSanitizer for C) or ThreadSanitizer, and the hosts in C and C++ in valgrind's
# memcheck. Each must first report deliberate faults.
#
#   ci/sanitize.sh address|thread|valgrind            all tests except those in skipped.txt, which has the reasons
#   ci/sanitize.sh address|thread --quick             the unit tests and a part of the others, as in CI
#   ci/sanitize.sh address|thread|valgrind FILTER...  the tests whose names contain a filter
#   ci/sanitize.sh address|thread --row N             row N of the fault matrix in full, if it starts no other tests
#   ci/sanitize.sh --self-test [address|thread|valgrind]    only the deliberate faults
#
# Rust and librdkafka are compiled with the sanitizer to target/address or target/thread. std is
# compiled with it for thread only, which must see its locks. Exits with 77 if the toolchain lacks
# something, and prints what.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly here=$PWD/ci/sanitize
readonly missing=77
# The other modules need TLS or SASL, kill processes or wait for minutes.
readonly quick_modules=(components:: consuming:: pools:: preparations:: processing:: producing:: pulls:: record_attributes::
    records:: services::)

usage() {
    sed -n '2,14s/^# \{0,1\}//p' "$0"
    exit 2
}

lack() {
    printf 'skipped: %s: %s\n' "$mode" "$1"
    exit "$missing"
}

# --- the build ------------------------------------------------------------------------------------

choose_toolchain() { # the short name of a sanitizer: selects the first toolchain that has its runtime
    target=$(rustc -vV | sed -n 's/^host: //p')
    local toolchain
    for toolchain in "${RUSTUP_TOOLCHAIN:-}" nightly; do
        export RUSTUP_TOOLCHAIN=$toolchain
        [[ -n $toolchain ]] || unset RUSTUP_TOOLCHAIN
        library=$(rustc --print sysroot 2>/dev/null)/lib/rustlib
        ! compgen -G "$library/$target/lib/librustc*_rt.$1.a" >/dev/null || return 0
    done
    lack "no toolchain has the runtime librustc…_rt.$1.a for $target: install stable or nightly with rustup"
}

prepare() { # address, thread or valgrind
    mode=$1
    command -v cargo >/dev/null || lack 'cargo is not installed'
    command -v cc >/dev/null || lack 'cc is not installed'
    built=$(ci/target.sh)
    out=$built/$mode
    reports=$out/reports
    cargo_flags=()
    # The sanitizers walk the frames at each allocation; without frame pointers the stacks are short
    # and wrong. Without C11 threads librdkafka uses pthread_create, which the sanitizers intercept.
    # They don't intercept thrd_create: AddressSanitizer then reports memory of the thread as freed
    # twice, and ThreadSanitizer crashes.
    export OCTOPUS_LIBRDKAFKA_CFLAGS="-g -O1 -fno-omit-frame-pointer -DWITH_C11THREADS=0"
    # The plugin uses the sanitizer runtime of the program, which must therefore export its symbols.
    local rust_flags='-Cforce-frame-pointers=yes -Clink-arg=-rdynamic -Clink-arg=-Wl,-z,undefs'
    local sanitizer_flags
    # Suppressions match function names, so a symbolizer is needed. Its path is absolute since some
    # tests start programs without PATH.
    local symbolizer common
    symbolizer=$(command -v llvm-symbolizer || command -v addr2line) || lack 'llvm-symbolizer (llvm) or addr2line (binutils) is not installed'
    common="log_path=$reports/report:external_symbolizer_path=$symbolizer:allow_addr2line=1"
    case $mode in
        address)
            choose_toolchain asan
            # The runtime of AddressSanitizer contains that of UndefinedBehaviorSanitizer, which
            # Rust does not have. The pointer checks are left out: AddressSanitizer covers them, and
            # gcc takes minutes for some files with them.
            OCTOPUS_LIBRDKAFKA_CFLAGS+=' -fsanitize=address,signed-integer-overflow,shift,integer-divide-by-zero,bounds,vla-bound'
            OCTOPUS_LIBRDKAFKA_CFLAGS+=,unreachable,bool,enum,float-cast-overflow
            sanitizer_flags=-Zsanitizer=address
            export ASAN_OPTIONS="$common:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
            ASAN_OPTIONS+=":suppressions=$here/memory.txt"
            export LSAN_OPTIONS="suppressions=$PWD/plugin-tests/hosts/leaks.supp"
            export UBSAN_OPTIONS="print_stacktrace=1:suppressions=$here/undefined.txt"
            export OCTOPUS_TEST_SLOWNESS=2
            ;;
        thread)
            choose_toolchain tsan
            [[ -d $library/src/rust/library/std ]] ||
                lack "the sources of std are not installed, without which its locks look like races: rustup component add rust-src"
            OCTOPUS_LIBRDKAFKA_CFLAGS+=' -fsanitize=thread'
            # Has parking_lot use a load in place of a fence, since ThreadSanitizer doesn't support
            # fences.
            sanitizer_flags='-Zsanitizer=thread --cfg tsan_enabled'
            cargo_flags+=(-Zbuild-std=std,panic_unwind,proc_macro,test)
            export TSAN_OPTIONS="$common:suppressions=$here/races.txt:history_size=4:second_deadlock_stack=1"
            export OCTOPUS_TEST_SLOWNESS=3
            ;;
        valgrind)
            command -v valgrind >/dev/null || lack 'valgrind is not installed'
            unset OCTOPUS_LIBRDKAFKA_CFLAGS
            return
            ;;
        *) usage ;;
    esac
    # Symbolizing a backtrace takes longer than tests of panics wait.
    export RUST_BACKTRACE=0
    # Sanitizers are unstable options. RUSTC_BOOTSTRAP allows them on a stable compiler, too.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="$sanitizer_flags $rust_flags" CARGO_TARGET_DIR=$out
    # The crate cc takes the sanitizer from the flags of rustc. This turns it off for zlib, zstd
    # and curl; librdkafka's own flags come later and turn it on.
    export "CFLAGS_${target//-/_}=-fno-sanitize=all"
    reuse_openssl
    cargo_flags+=(--target "$target")
}

# OpenSSL is not compiled with the sanitizer and takes as long to compile as all else, so the build
# reuses that of the debug build, if it exists.
reuse_openssl() {
    local made
    made=$(ls -td "$built"/debug/build/openssl-sys-*/out/openssl-build/install 2>/dev/null | head -1) || return 0
    [[ -e $made/lib/libssl.a ]] || return 0
    export OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1 OPENSSL_DIR=$made
}

build() { # cargo's arguments; build scripts and proc macros may leak
    env ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=report_bugs=0 cargo "$1" "${cargo_flags[@]}" "${@:2}"
}

# --- the self-test --------------------------------------------------------------------------------

self_test() {
    local folder=$out/planted expected failed=0 fault printed
    local manifest=(--quiet --locked --manifest-path "$here/planted/Cargo.toml")
    declare -A expected
    case $mode in
        address)
            expected=([rust_use_after_free]='heap-use-after-free' [c_heap_overflow]='heap-buffer-overflow'
                [c_signed_overflow]='signed integer overflow' [rust_leak]='detected memory leaks') ;;
        thread) expected=([rust_race]='data race' [c_race]='data race') ;;
        valgrind) expected=([rust_use_after_free]='Invalid read' [c_heap_overflow]='Invalid write' [rust_leak]='definitely lost') ;;
    esac
    expected[nothing]=''
    if [[ $mode == valgrind ]]; then
        CARGO_TARGET_DIR=$out build build "${manifest[@]}"
        folder=$out/debug
    else
        build build "${manifest[@]}"
        folder=$out/$target/debug
    fi
    for fault in "${!expected[@]}"; do
        fresh_reports
        if [[ $mode == valgrind ]]; then
            valgrind --quiet --leak-check=full --show-leak-kinds=definite --log-file="$reports/report" \
                "$folder/planted" "$folder/libplanted.so" "$fault" || true
        else
            "$folder/planted" "$folder/libplanted.so" "$fault" || true
        fi
        printed=$(cat "$reports"/* 2>/dev/null || true)
        if [[ -z ${expected[$fault]} && -n $printed ]] || ! grep -q "${expected[$fault]}" <<<"$printed"; then
            printf 'sanitize.sh: %s: fault %s: expected in the report: "%s", found:\n%s\n' \
                "$mode" "$fault" "${expected[$fault]:-nothing at all}" "${printed:-no report}" >&2
            failed=1
        fi
    done
    [[ $failed == 0 ]] || exit 1
    printf '%s: each of %d deliberate faults is reported, and a correct program has no report\n' "$mode" $((${#expected[@]} - 1))
}

fresh_reports() {
    rm -rf "$reports" "$out/output.log"
    mkdir -p "$reports"
}

# --- the tests ------------------------------------------------------------------------------------

# A line of skipped.txt has the runs, a prefix of test names, and the reason. Prints each skipped
# test, and fills `skips`.
read_skipped() { # the names of all tests
    skips=() skipped=0
    local modes name reason test
    while IFS='|' read -r modes name reason; do
        [[ " $modes " == *" $mode "* ]] || continue
        name=${name// /}
        skips+=(--skip "$name")
        local found=0
        while read -r test; do
            printf 'skipped: %s:%s\n' "$test" "$reason"
            found=1 skipped=$((skipped + 1))
        done < <(grep -F "$name" <<<"$1" || true)
        [[ $found == 1 || $partial == 1 ]] || { echo "sanitize.sh: skipped.txt has $name, which matches no test" >&2 && exit 1; }
    done < <(grep -v '^#' "$here/skipped.txt")
}

run_tests() { # filters
    local which=(--workspace --lib --bins --tests) list
    partial=0 status=0
    if [[ $mode == valgrind ]]; then
        which=(-p plugin-tests --test suite)
        [[ $# -gt 0 ]] || set -- hosts:: loading:: growing::
        export OCTOPUS_TEST_VALGRIND=1
    fi
    [[ $# == 0 ]] || partial=1
    # Tests run the examples.
    build build --locked --workspace --all-targets
    list=$(build test --locked "${which[@]}" -- --list "$@" 2>"$out/build.log") || { cat "$out/build.log" >&2 && exit 1; }
    read_skipped "$(sed -n 's/: test$//p' <<<"$list")"
    fresh_reports
    run_cargo_test "${which[@]}" -- "${skips[@]}" "$@"
    report_results
}

# Without the crates of AWS, which are a third of the build.
readonly without_aws=(--workspace --no-default-features --features plugin-tests/msk,plugin-tests/oidc,plugin-tests/patched,plugin-tests/schema,plugin-tests/tls,plugin-tests/topic-service,plugin-tests/zstd)

run_row() { # number
    status=0 skipped=0
    ci/kafka.sh --jars-only >/dev/null
    build build --locked "${without_aws[@]}" --bin faults
    fresh_reports
    ASAN_OPTIONS+=:detect_leaks=0 "$out/$target/debug/faults" --full --row "$1" 2>&1 | tee -a "$out/output.log" || status=1
    # In the format of libtest, for `report_results`.
    printf 'test result: %d passed; %d failed\n' $((1 - status)) "$status" >>"$out/output.log"
    report_results
}

# Runs all unit tests and the fast modules of the suite, none of which uses the crates of AWS.
run_quick_tests() {
    local which=("${without_aws[@]}")
    local suite=(--test suite) list
    partial=1 status=0
    list=$(build test --locked "${which[@]}" "${suite[@]}" -- --list "${quick_modules[@]}" 2>"$out/build.log") ||
        { cat "$out/build.log" >&2 && exit 1; }
    read_skipped "$(sed -n 's/: test$//p' <<<"$list")"
    fresh_reports
    run_cargo_test "${which[@]}" --lib --
    run_cargo_test "${which[@]}" "${suite[@]}" -- "${skips[@]}" "${quick_modules[@]}"
    [[ $mode != address ]] || run_rows
    report_results
}

# Runs shares of two rows of the fault matrix: corrupted responses, and opening and closing in quick
# succession.
run_rows() {
    ci/kafka.sh --jars-only >/dev/null
    ASAN_OPTIONS+=:detect_leaks=0 "$out/$target/debug/faults" --row 7 --row 19 2>&1 | tee -a "$out/output.log" || status=1
}

run_cargo_test() { # which, --, libtest's arguments
    cargo test "${cargo_flags[@]}" --no-fail-fast --locked "$@" --test-threads=4 2>&1 | tee -a "$out/output.log" || status=1
}

sum() { # passed or failed
    awk -v what="$1" '/^test result: / { for (i = 2; i <= NF; i++) if ($i ~ "^" what) total += $(i - 1) } END { print total + 0 }' "$out/output.log"
}

report_results() {
    local passed failed found=0 file
    passed=$(sum passed)
    failed=$(sum failed)
    for file in "$reports"/*; do
        [[ -e $file ]] || continue
        grep -hE '^ *[0-9]+ +(race|deadlock|leak|thread|called_from_lib):|^ *[0-9]+ +[0-9]+ +[a-z_]+$|suppressions' "$file" |
            sed 's/^/suppressed: /' || true
        found=$((found + $(grep -cE '(WARNING|ERROR): (Address|Leak|Thread)Sanitizer|runtime error:' "$file" || true)))
    done
    printf '%s: %d tests passed, %d failed, %d skipped by name, %d reports\n' "$mode" "$passed" "$failed" "$skipped" "$found"
    if [[ ${#failed_commands[@]} -gt 0 ]]; then
        # Prints compile errors, too, since a failed build has no failed test.
        printf 'sanitize.sh: failed: %s\n' "${failed_commands[@]}" >&2
        grep -E '^error|^test .* FAILED$|No space left|signal: ' "$out/output.log" | tail -40 >&2 || true
    fi
    if [[ $found -gt 0 ]]; then
        echo "the reports are in $reports" >&2
        cat "$reports"/* | grep -hE 'SUMMARY|runtime error:' | sort | uniq -c | sort -rn | head -40 >&2
    fi
    if [[ $passed == 0 ]]; then
        echo "sanitize.sh: no test was run" >&2
        exit 1
    fi
    [[ $status == 0 && $found == 0 ]]
}

print_unavailable() {
    echo "skipped: Miri: it needs a component that not every toolchain has, and can't run librdkafka, which most modules call"
    [[ $mode != valgrind ]] ||
        echo "skipped: helgrind: it knows the locks of pthread only, and not those of Rust, which are futexes; use thread"
}

quick=false
filters=()
failed_commands=()
only_self_test=false
modes=()
row=''
while (($#)); do
    case $1 in
        --quick) quick=true ;;
        --self-test) only_self_test=true ;;
        --row) row=${2:?--row needs a number} && shift ;;
        -*) usage ;;
        address | thread | valgrind) modes+=("$1") ;;
        *) filters+=("$1") ;;
    esac
    shift
done
if $only_self_test; then
    [[ ${#modes[@]} -gt 0 ]] || modes=(address thread valgrind)
    for mode in "${modes[@]}"; do
        (prepare "$mode" && self_test)
    done
    exit
fi
[[ ${#modes[@]} == 1 ]] || usage
prepare "${modes[0]}"
self_test
print_unavailable
if [[ $row ]]; then
    run_row "$row"
elif $quick; then
    run_quick_tests
else
    run_tests "${filters[@]}"
fi
