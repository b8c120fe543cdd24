#!/usr/bin/env bash
# Tests the C++ Diaspora API on this library: builds the library with the feature `diaspora` and
# plugin-tests/diaspora against an installed diaspora-stream-api, and runs the tests on a real
# Kafka. Tests that need something not installed are skipped.
#
#   DIASPORA_PREFIX=/path ci/diaspora.sh        the prefix of the API, if pkg-config does not find it
#   OCTOPUS_CPP_LIBRARY=/path/liboctopus.so     C++ Octopus, for the interchange tests
#   PYTHONPATH=/path                            the folder of the API's Python module
#   OCTOPUS_PREFIX=/path                        an installed Octopus or an unpacked archive, which the
#                                               adapter in a library of its own uses; else the debug
#                                               build is installed for it
set -euo pipefail
cd "$(dirname "$0")/.."

readonly on_one_kafka=(components producing consuming selections driver attributes)
built=$(ci/target.sh)
readonly built out=$built/diaspora
readonly library=$out/liboctopus.so
# An installation without the adapter, and the adapter as a library of its own beside it.
readonly installed=$out/installed
readonly page=docs/reference/diaspora.md
readonly limited=(timeout --kill-after=5 600)
failures=0

skip() { printf 'skipped: %s: %s\n' "$1" "$2"; }

run() { # name, command...
    local name=$1
    shift
    printf -- '--- %s\n' "$name"
    if ! "$@"; then
        printf 'failed: %s\n' "$name" >&2
        failures=$((failures + 1))
    fi
}

find_api() {
    if [[ -n ${DIASPORA_PREFIX:-} ]]; then
        compile_flags=(-isystem "$DIASPORA_PREFIX/include")
        link_flags=(-ldiaspora-stream-api)
        local folder
        for folder in "$DIASPORA_PREFIX"/{lib,lib64,"lib/$(cc -dumpmachine)"}; do
            [[ ! -d $folder ]] || link_flags+=(-L"$folder" -Wl,-rpath,"$folder")
        done
    elif command -v pkg-config >/dev/null && pkg-config --exists diaspora-stream-api; then
        read -ra compile_flags <<<"$(pkg-config --cflags diaspora-stream-api)"
        read -ra link_flags <<<"$(pkg-config --libs diaspora-stream-api)"
    else
        return 1
    fi
}

compile() { # source, program, options...
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror "${@:3}" "${compile_flags[@]}" -o "$2" "$1" "${link_flags[@]}" -pthread
}

build() {
    mkdir -p "$out"
    build_adapter
    cargo build --locked -p octopus --features diaspora --message-format json-render-diagnostics >"$out/cargo.json"
    # A copy, since cargo replaces the library when another step builds it without the adapter.
    cp "$built/debug/liboctopus.so" "$library"
    ci/symbols.sh "$library" --with-diaspora
    local program
    for program in "${on_one_kafka[@]}" expiring interchange; do
        compile "plugin-tests/diaspora/$program.cpp" "$out/$program" -O1 -g
    done
    compile plugin-tests/diaspora/json.cpp "$out/json" -O1 -g -Isrc/diaspora src/diaspora/{Bytes,Json}.cpp
    c++ -std=c++17 -O1 -Wall -Wextra -Wpedantic -Werror "${compile_flags[@]}" -shared -fPIC -o "$out/libpicky.so" \
        plugin-tests/diaspora/component_library.cpp "${link_flags[@]}"
    cc -std=c11 -O1 -Wall -Wextra -Werror -Iinclude -o "$out/roundtrip" plugin-tests/hosts/roundtrip.c -ldl
}

build_adapter() {
    command -v cmake >/dev/null || return 0
    rm -rf "$installed" "$out/adapter"
    mkdir -p "$installed"
    local commands=("s|/opt/octopus|$installed|g; s|/usr/local|${DIASPORA_PREFIX:-/usr/local}|g; s|target/adapter|$out/adapter|g")
    if [[ -n ${OCTOPUS_PREFIX:-} ]]; then
        # Only Octopus' own files, since the prefix can be /usr.
        (cd "$OCTOPUS_PREFIX" && find include lib* -path '*octopus*' ! -type d -print0 | tar -c --null -T -) | tar -x -C "$installed"
        commands+=('/^ci\/install.sh /d')
    else
        cargo build --locked -p octopus
        commands+=("s|^ci/install.sh .*|& --library '$built/debug/liboctopus.so'|")
    fi
    sed "$(printf '%s\n' "${commands[@]}")" <(documented_commands) >"$out/adapter.sh"
    grep -q '^cmake --install ' "$out/adapter.sh" || { echo "$page lacks the commands that install the adapter" >&2; return 1; }
    bash -euo pipefail "$out/adapter.sh" >"$out/adapter.log" || { cat "$out/adapter.log" >&2; return 1; }
    ci/symbols.sh "$(find_installed liboctopus.so)"
}

# The block of commands for the adapter in a library of its own.
documented_commands() {
    awk '/^\*\*As a library of its own/ { found = 1 }
        found && /^```$/ { exit }
        in_block { print }
        found && /^```sh$/ { in_block = 1 }' "$page"
}

find_installed() { # file
    find "$installed" -name "$1" | grep . || { echo "$installed has no $1" >&2; return 1; }
}

# The program that cargo has made of build.rs.
build_script() {
    python3 - "$out/cargo.json" "$PWD/Cargo.toml" <<'END'
import json, sys
for message in map(json.loads, open(sys.argv[1])):
    if message.get("manifest_path") == sys.argv[2] and "custom-build" in message.get("target", {}).get("kind", []):
        print(message["filenames"][0])
END
}

test_build_errors() {
    local tool
    for tool in cmake python3 pkg-config; do
        command -v "$tool" >/dev/null || { skip build_errors "$tool is not installed" && return; }
    done
    run build_errors "${limited[@]}" python3 plugin-tests/diaspora/build_errors.py "$installed" "$(build_script)" \
        ${DIASPORA_PREFIX:+"$DIASPORA_PREFIX"}
}

exchange() { # Kafka, library that writes, library that reads, partitions
    local prefix="interchange-$RANDOM-"
    { [[ $4 != any ]] || "${limited[@]}" "$out/interchange" "$library" "$1" "$prefix" make any; } &&
        "${limited[@]}" "$out/interchange" "$2" "$1" "$prefix" write "$4" &&
        "${limited[@]}" "$out/interchange" "$3" "$1" "$prefix" read "$4"
}

# Pushes lines without waiting for their deliveries and ends at SIGTERM. All lines must arrive.
fifo() { # diaspora-ctl, Kafka
    local lines=1000 folder topic=fifo-$RANDOM pid read=0
    folder=$(mktemp -d "$out/fifo.XXXXXX")
    printf '{"kafka": {"bootstrap.servers": "%s"}}' "$2" >"$folder/driver.json"
    # The driver's name alone, for which the API opens liboctopus.so.
    local -x LD_LIBRARY_PATH=$out${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    local driver=(--driver octopus --driver-config "$folder/driver.json")
    "$1" topic create "${driver[@]}" --name "$topic" --topic.replication_factor 1 >"$folder/log" 2>&1 ||
        { cat "$folder/log" && return 1; }
    "$1" fifo "${driver[@]}" --control-file "$folder/control" --logging error >"$folder/log" 2>&1 &
    pid=$!
    await "$folder/control" && printf '%s -> %s\n' "$folder/lines" "$topic" >"$folder/control" && await "$folder/lines" &&
        seq "$lines" >"$folder/lines" && sleep 1 && kill -TERM "$pid" && wait "$pid"
    kill "$pid" 2>/dev/null || true
    read=$(kcat -C -b "$2" -t "$topic" -o beginning -e -q -f '.' | wc -c)
    printf '%s of %s lines arrived\n' "$read" "$lines"
    cat "$folder/log"
    rm -rf "$folder"
    [[ $read == "$lines" ]]
}

await() { # a pipe
    local try
    for try in {1..200}; do
        [[ ! -p $1 ]] || return 0
        sleep 0.05
    done
    echo "the pipe $1 was not created within 10 s" >&2
    return 1
}

run_tests() { # Kafka
    # First, since C++ Octopus reads each info topic of the Kafka for a second to list the topics.
    run 'interchange with itself' exchange "$1" "$library" "$library" asked
    if [[ -n ${OCTOPUS_CPP_LIBRARY:-} ]]; then
        run 'interchange: C++ Octopus reads' exchange "$1" "$library" "$OCTOPUS_CPP_LIBRARY" asked
        run 'interchange: C++ Octopus writes' exchange "$1" "$OCTOPUS_CPP_LIBRARY" "$library" any
    else
        skip 'interchange with C++ Octopus' 'set OCTOPUS_CPP_LIBRARY to its liboctopus.so'
    fi
    local program
    for program in "${on_one_kafka[@]}"; do
        run "$program" "${limited[@]}" "$out/$program" "$library" "$1" "$program-"
    done
    if command -v cmake >/dev/null; then
        local adapter
        adapter=$(find_installed libdiaspora-octopus.so)
        run 'selections, with the name of the adapter alone' env LD_LIBRARY_PATH="${adapter%/*}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
            "${limited[@]}" "$out/selections" libdiaspora-octopus.so "$1" bare-selections-
        for program in "${on_one_kafka[@]}"; do
            run "$program, with the adapter in a library of its own" "${limited[@]}" "$out/$program" "$adapter" "$1" "separate-$program-"
        done
    else
        skip 'the adapter in a library of its own' 'cmake is not installed'
    fi
    run 'a host in C, with the same file' "${limited[@]}" "$out/roundtrip" "$library" "$1" c-host c-host-group
    if python3 -c 'import diaspora_stream.api' 2>/dev/null; then
        run python_binding "${limited[@]}" python3 plugin-tests/diaspora/python_binding.py "$library" "$1"
        run scripts "${limited[@]}" python3 plugin-tests/diaspora/scripts.py "$library" "$1"
    else
        skip plugin-tests/diaspora/python_binding 'python3 finds no diaspora_stream; set PYTHONPATH to its folder'
        skip plugin-tests/diaspora/scripts 'as above'
    fi
    local ctl=${DIASPORA_PREFIX:-/usr}/bin/diaspora-ctl
    if [[ -x $ctl ]]; then
        run 'diaspora-ctl fifo' fifo "$ctl" "$1"
    else
        skip 'diaspora-ctl fifo' "$ctl is not installed"
    fi
}

case ${1:-} in
    '')
        if ! find_api; then
            for name in build_errors json "${on_one_kafka[@]}" expiring interchange python_binding scripts; do
                skip "plugin-tests/diaspora/$name" 'no diaspora-stream-api is found; set DIASPORA_PREFIX to its prefix'
            done
            exit 0
        fi
        build
        test_build_errors
        run json "${limited[@]}" "$out/json"
        run 'on one Kafka' ci/with-kafka.sh "$0" --promises
        KAFKA_OPTIONS='--set log.retention.ms=1000 --set log.retention.check.interval.ms=300' \
            run 'on a Kafka with a short retention' ci/with-kafka.sh "$0" --expiring
        ;;
    --compile) # source, program: for ci/bench.sh
        find_api || { echo "$0: no diaspora-stream-api is found; set DIASPORA_PREFIX to its prefix" >&2; exit 1; }
        compile "$2" "$3" -O2
        ;;
    --promises) run_tests "$2" ;;
    --expiring) run expiring "${limited[@]}" "$out/expiring" "$library" "$2" expiring- ;;
    *)
        sed -n '2,11s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
exit $((failures > 0))
