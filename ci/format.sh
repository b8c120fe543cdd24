#!/usr/bin/env bash
# Checks the format of the sources: Rust by rustfmt.toml, C and C++ by .clang-format, ends of lines
# by .editorconfig.
#
#   ci/format.sh         runs the checks, as CI does
#   ci/format.sh --fix   formats the files
#
# Versions of clang-format differ in their results, so one is used. It is installed below the target
# directory unless the system has it.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=18.1.8
# Each has a lock file of its own.
readonly workspaces=(Cargo.toml plugin-tests/models/Cargo.toml plugin-tests/fuzz/Cargo.toml ci/sanitize/planted/Cargo.toml)
readonly texts=(':!*.patch' ':!plugin-tests/fuzz/corpus' ':!plugin-tests/abi')
readonly generated=include/octopus.h # by cbindgen, from src/abi

fail() {
    printf 'ci/format.sh: %s\n' "$*" >&2
    exit 1
}

is_pinned() { # command
    [[ $("$1" --version 2>/dev/null) =~ version\ $version ]]
}

find_clang_format() {
    local tools
    tools=$(ci/target.sh)/tools/clang-format-$version
    for clang_format in clang-format "clang-format-${version%%.*}" "$tools/bin/clang-format"; do
        ! is_pinned "$clang_format" || return 0
    done
    command -v python3 >/dev/null || fail 'python3 is missing (Debian: apt install python3 python3-venv)'
    # The lock has other runs wait for the one that installs.
    mkdir -p "$tools"
    (
        flock 9
        ! is_pinned "$clang_format" || exit 0
        python3 -m venv "$tools" || fail "python3 can't create a virtual environment (Debian: apt install python3-venv)"
        "$tools/bin/pip" install --quiet --disable-pip-version-check "clang-format==$version" ||
            fail "pip could not install clang-format $version: see above"
    ) 9>"$tools/lock"
    is_pinned "$clang_format" || fail "$clang_format is not version $version: remove $tools and run this again"
}

failed=0
format_rust() { # argument of rustfmt...
    local workspace
    for workspace in "${workspaces[@]}"; do
        cargo fmt --all --manifest-path "$workspace" -- "$@" || failed=1
    done
}

# Also files that are not committed yet, and none that were removed since the last commit.
c_files() {
    git ls-files --cached --others --exclude-standard -- '*.c' '*.h' '*.cpp' '*.hpp' | grep -vxF "$generated" |
        while read -r file; do [[ ! -e $file ]] || echo "$file"; done
}

check_c() {
    local file count=0
    while read -r file; do
        count=$((count + 1))
        "$clang_format" --style=file "$file" | diff -u --label "$file" --label "$file, formatted" "$file" - || failed=1
    done < <(c_files)
    [[ $count -gt 0 ]] || fail 'there are no C and C++ files'
    echo "ci/format.sh: compared $count C and C++ files, and the Rust files of ${#workspaces[@]} workspaces"
}

# What editors do that read .editorconfig.
check_ends() {
    local file
    # git grep -I leaves out binary files.
    ! git grep -nIE $'[ \t\r]+$' -- "${texts[@]}" || failed=1
    while read -r file; do
        [[ -z $(tail -c1 "$file") ]] || { echo "$file: no newline at its end" && failed=1; }
    done < <(git grep -lI '' -- "${texts[@]}")
}

case ${1:-} in
    '')
        find_clang_format
        format_rust --check
        check_c
        check_ends
        [[ $failed == 0 ]] || fail 'the files above have another format: run ci/format.sh --fix'
        ;;
    --fix)
        find_clang_format
        format_rust
        c_files | xargs -d '\n' "$clang_format" --style=file -i
        exit "$failed"
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
