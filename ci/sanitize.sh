#!/usr/bin/env bash
# Runs the tests on a plugin that watches itself: AddressSanitizer (with LeakSanitizer, and in C UndefinedBehaviorSanitizer),
# ThreadSanitizer; and the hosts in C and C++ in valgrind's memcheck. Each first has to report faults that are planted.
#
#   ci/sanitize.sh address|thread|valgrind            all tests but those that are named as skipped, with the reason
#   ci/sanitize.sh address|thread --quick             the unit tests, and a part of the others: what CI runs
#   ci/sanitize.sh address|thread|valgrind FILTER...  the tests whose names contain one of these
#   ci/sanitize.sh address|thread --row N             that row of the fault matrix in full, if it starts no other tests
#   ci/sanitize.sh --self-test [address|thread|valgrind]
#
# Rust and librdkafka are compiled with the sanitizer, into target/address or target/thread; std only for thread, where its
# locks must be seen. Exits with 77 where the toolchain lacks what is needed, and says what.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly here=$PWD/ci/sanitize
readonly missing=77
# Without these whatever has to be secured, killed or waited for over minutes.
readonly quick_modules=(components:: consuming:: pools:: preparations:: processing:: producing:: records:: services::)

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
}

lack() {
    printf 'skipped: %s: %s\n' "$mode" "$1"
    exit "$missing"
}

# --- what each run is made with ---------------------------------------------------------------------------------------

choose_toolchain() { # the sanitizer's short name: the first toolchain that has its runtime
    target=$(rustc -vV | sed -n 's/^host: //p')
    local toolchain
    for toolchain in "${RUSTUP_TOOLCHAIN:-}" nightly; do
        export RUSTUP_TOOLCHAIN=$toolchain
        [[ -n $toolchain ]] || unset RUSTUP_TOOLCHAIN
        library=$(rustc --print sysroot 2>/dev/null)/lib/rustlib
        ! compgen -G "$library/$target/lib/librustc*_rt.$1.a" >/dev/null || return 0
    done
    lack "no toolchain here has the runtime librustc…_rt.$1.a for $target: install a stable one or nightly by rustup"
}

prepare() { # address, thread or valgrind
    mode=$1
    command -v cargo >/dev/null || lack 'cargo is not installed'
    command -v cc >/dev/null || lack 'cc is not installed'
    out=$PWD/target/$mode
    reports=$out/reports
    cargo_flags=()
    # Frames are walked at each allocation; without their pointers stacks are short and wrong.
    # Without C11's threads librdkafka starts its threads by pthread_create, where sanitizers see them begin; one that
    # thrd_create started is unknown to them: its memory seems freed twice to the one, and crashes the other.
    export OCTOPUS_LIBRDKAFKA_CFLAGS="-g -O1 -fno-omit-frame-pointer -DWITH_C11THREADS=0"
    # Plugins have no runtime of their own: they find that of the program, which therefore shows its symbols.
    local rust_flags='-Cforce-frame-pointers=yes -Clink-arg=-rdynamic -Clink-arg=-Wl,-z,undefs'
    local watched
    # Suppressions go by functions' names, also in programs that are started without PATH.
    local symbolizer common
    symbolizer=$(command -v llvm-symbolizer || command -v addr2line) || lack 'llvm-symbolizer (llvm) or addr2line (binutils) is not installed'
    common="log_path=$reports/report:external_symbolizer_path=$symbolizer:allow_addr2line=1"
    case $mode in
        address)
            choose_toolchain asan
            # UndefinedBehaviorSanitizer's runtime is in that of AddressSanitizer. Rust has none of its own. What it asks of
            # each pointer, AddressSanitizer answers; with that, gcc takes minutes for some of librdkafka's files.
            OCTOPUS_LIBRDKAFKA_CFLAGS+=' -fsanitize=address,signed-integer-overflow,shift,integer-divide-by-zero,bounds,vla-bound'
            OCTOPUS_LIBRDKAFKA_CFLAGS+=,unreachable,bool,enum,float-cast-overflow
            watched=-Zsanitizer=address
            export ASAN_OPTIONS="$common:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
            ASAN_OPTIONS+=":suppressions=$here/memory.txt"
            export LSAN_OPTIONS="suppressions=$PWD/plugin-tests/hosts/leaks.supp"
            export UBSAN_OPTIONS="print_stacktrace=1:suppressions=$here/undefined.txt"
            export OCTOPUS_TEST_SLOWNESS=2
            ;;
        thread)
            choose_toolchain tsan
            [[ -d $library/src/rust/library/std ]] ||
                lack "std's sources are not installed, and unseen locks look like races: rustup component add rust-src"
            OCTOPUS_LIBRDKAFKA_CFLAGS+=' -fsanitize=thread'
            # parking_lot has a load in place of a fence, which ThreadSanitizer doesn't see.
            watched='-Zsanitizer=thread --cfg tsan_enabled'
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
    # Where a panic is tested, no test waits long enough for its backtrace.
    export RUST_BACKTRACE=0
    # Sanitizers are options of nightly; the stable compiler has them all the same, when it is told to let them be used.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="$watched $rust_flags" CARGO_TARGET_DIR=$out
    # The crate cc takes the sanitizer from the flags of rustc; zlib, zstd and ring are left as they are, and librdkafka's own flags
    # come behind this.
    export "CFLAGS_${target//-/_}=-fno-sanitize=all"
    lend_openssl
    cargo_flags+=(--target "$target")
}

# OpenSSL is left as it is, and takes as long to compile as all the rest: what the debug build made of it is taken, if it is there.
lend_openssl() {
    local made
    made=$(ls -td target/debug/build/openssl-sys-*/out/openssl-build/install 2>/dev/null | head -1) || return 0
    [[ -e $made/lib/libssl.a ]] || return 0
    export OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1 OPENSSL_DIR=$PWD/$made
}

build() { # cargo's arguments; what is compiled and run on the way may leak
    env ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=report_bugs=0 cargo "$1" "${cargo_flags[@]}" "${@:2}"
}

# --- the sanitizers see something ---------------------------------------------------------------------------------------

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
            printf 'sanitize.sh: %s: %s planted, expected in the report: "%s", found:\n%s\n' \
                "$mode" "$fault" "${expected[$fault]:-nothing at all}" "${printed:-no report}" >&2
            failed=1
        fi
    done
    [[ $failed == 0 ]] || exit 1
    printf '%s: each of %d planted faults is reported, and nothing where there is none\n' "$mode" $((${#expected[@]} - 1))
}

fresh_reports() {
    rm -rf "$reports" "$out/output.log"
    mkdir -p "$reports"
}

# --- the tests ----------------------------------------------------------------------------------------------------------

# Lines of skipped.txt: the run, how the tests' names begin, why. Prints each test that is left out, and fills `skips`.
name_skipped() { # the names of all tests
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
        [[ $found == 1 || $partial == 1 ]] || { echo "sanitize.sh: skipped.txt names $name, which is no test" >&2 && exit 1; }
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
    # Examples are programs that tests run.
    build build --locked --workspace --all-targets
    list=$(build test --locked "${which[@]}" -- --list "$@" 2>"$out/build.log") || { cat "$out/build.log" >&2 && exit 1; }
    name_skipped "$(sed -n 's/: test$//p' <<<"$list")"
    fresh_reports
    watch_tests "${which[@]}" -- "${skips[@]}" "$@"
    tell
}

# Without AWS' crates, which are a third of what is compiled.
readonly most=(--workspace --no-default-features --features plugin-tests/oidc,plugin-tests/patched,plugin-tests/tls,plugin-tests/zstd)

run_row() { # number
    status=0 skipped=0
    ci/kafka.sh --jars-only >/dev/null
    build build --locked "${most[@]}" --bin faults
    fresh_reports
    ASAN_OPTIONS+=:detect_leaks=0 "$out/$target/debug/faults" --full --row "$1" 2>&1 | tee -a "$out/output.log" || status=1
    # In libtest's words, for `tell`.
    printf 'test result: %d passed; %d failed\n' $((1 - status)) "$status" >>"$out/output.log"
    tell
}

# All unit tests, and of the others those that are done soon, none of which uses AWS' crates.
run_quick_tests() {
    local which=("${most[@]}")
    local suite=(--test suite) list
    partial=1 status=0
    list=$(build test --locked "${which[@]}" "${suite[@]}" -- --list "${quick_modules[@]}" 2>"$out/build.log") ||
        { cat "$out/build.log" >&2 && exit 1; }
    name_skipped "$(sed -n 's/: test$//p' <<<"$list")"
    fresh_reports
    watch_tests "${which[@]}" --lib --
    watch_tests "${which[@]}" "${suite[@]}" -- "${skips[@]}" "${quick_modules[@]}"
    [[ $mode != address ]] || run_rows
    tell
}

# What garbled answers, and opening and closing in haste, do to memory: shares of two rows of the fault matrix.
run_rows() {
    ci/kafka.sh --jars-only >/dev/null
    ASAN_OPTIONS+=:detect_leaks=0 "$out/$target/debug/faults" --row 7 --row 19 2>&1 | tee -a "$out/output.log" || status=1
}

watch_tests() { # which, --, libtest's arguments
    cargo test "${cargo_flags[@]}" --no-fail-fast --locked "$@" --test-threads=4 2>&1 | tee -a "$out/output.log" || status=1
}

sum() { # passed or failed
    awk -v what="$1" '/^test result: / { for (i = 2; i <= NF; i++) if ($i ~ "^" what) total += $(i - 1) } END { print total + 0 }' "$out/output.log"
}

tell() {
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
        # What could not be compiled has no test that failed.
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

name_what_cannot_be() {
    echo "skipped: Miri: it needs a component that not every toolchain has, and can't run librdkafka, which all but a few modules call"
    [[ $mode != valgrind ]] ||
        echo "skipped: helgrind: it knows pthread's locks only, and takes each of Rust's, which are futexes, for none; see thread"
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
name_what_cannot_be
if [[ $row ]]; then
    run_row "$row"
elif $quick; then
    run_quick_tests
else
    run_tests "${filters[@]}"
fi
