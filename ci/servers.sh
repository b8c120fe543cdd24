# Sourced by scripts that start servers: `work` is a folder for their files, `processes` has the ids
# to end. When the script ends, it ends them, the last one first, and deletes the folder.
# shellcheck shell=bash

work=$(mktemp -d)
processes=()
end_servers() {
    local number
    for ((number = ${#processes[@]} - 1; number >= 0; number--)); do
        kill "${processes[number]}" 2>/dev/null && wait "${processes[number]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end_servers EXIT

fail() {
    printf 'ci/%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
