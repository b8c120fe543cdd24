#!/usr/bin/env bash
# Compares the ABI that include/octopus.h describes with the one that was accepted last: a field, slot, argument or constant
# that hosts were built with must be what and where it was. What is appended passes.
#
#   ci/abi.sh               compares with plugin-tests/abi/octopus.abi
#   ci/abi.sh --accept      makes the header's ABI the accepted one
#   ci/abi.sh --self-test   shows, on changed copies of the header, what is refused and what is not
#
# The library is built from the same types (plugin-tests/tests/suite/header.rs), and laid out alike (src/abi/layout.rs).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly header=include/octopus.h
readonly accepted=plugin-tests/abi/octopus.abi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Structs that begin with their size may grow; of these every field is looked at by itself, as abidiff knows no growing: it
# takes a struct's new end for a change, and, told not to, lets what moved or got another type pass with it.
fields() { # header: "struct field" for each field of the structs that may grow
    awk '
        /^typedef struct octopus_[a-z_]* \{/ { name = $3; statement = ""; count = 0; next }
        /^\} octopus_[a-z_]*;/ { name = "" }
        !name || /^ *\/\// { next }
        { statement = statement " " $0 }
        /;$/ {
            if (match(statement, /\(\*[a-z_]+\)/)) field = substr(statement, RSTART + 2, RLENGTH - 3)
            else { match(statement, /[a-z_]+;/); field = substr(statement, RSTART, RLENGTH - 1) }
            if (count++ == 0) grows = statement ~ /^ +uint64_t size;$/
            if (grows) print name, field
            statement = ""
        }
    ' "$1"
}

# A program whose symbols are what hosts rely on: the entry, each such field with its type and place, each constant.
program() { # header
    local name field
    echo '#include <stddef.h>'
    echo '#include "octopus.h"'
    echo '__typeof__(octopus_register) *octopus_register__entry;'
    declare -A last=()
    while read -r name field; do
        echo "__typeof__(((${name} *)0)->${field}) ${name}__${field};"
        echo "enum ${name}__${field} { ${name}__${field}_is_at = offsetof(${name}, ${field}) } ${name}__${field}_place;"
        last[$name]=$field
    done < <(fields "$1")
    # Else the next field would lie in what older hosts count as theirs and never set to zero.
    for name in "${!last[@]}"; do
        field=${last[$name]}
        echo "_Static_assert(sizeof(${name}) == offsetof(${name}, ${field}) + sizeof(((${name} *)0)->${field})," \
            "\"${name} ends in padding: append a reserved field\");"
    done
    sed -n 's/^#define \(OCTOPUS_[A-Z_]*\) [^\\]*$/\1/p' "$1" | while read -r name; do
        echo "enum ${name}_value { ${name}_is = ${name} } ${name}_constant;"
    done
}

# Within an `if` nothing stops at a failure, hence the chains.
describe() { # header, description
    local unit=$folder/octopus
    mkdir -p "$folder/include" &&
        cp "$1" "$folder/include/octopus.h" &&
        program "$1" >"$unit.c" &&
        cc -std=gnu11 -Wall -Wextra -Werror -g -shared -fPIC -I "$folder/include" -o "$unit.so" "$unit.c" &&
        abidw --no-show-locs --no-corpus-path --no-comp-dir-path --no-architecture --no-elf-needed --out-file "$2" "$unit.so"
}

compare() { # description, header that tells which structs grow
    local growing
    growing=$(fields "$2" | cut -d' ' -f1 | sort -u | paste -sd'|')
    printf '[suppress_type]\n  type_kind = struct\n  name_regexp = ^(%s)$\n' "$growing" >"$folder/grows.ini"
    abidiff --no-added-syms --suppressions "$folder/grows.ini" "$accepted" "$1"
}

check() { # header
    describe "$1" "$folder/now.abi" || exit # no ABI, so nothing was compared
    compare "$folder/now.abi" "$header"
}

# ---- the self-test ----------------------------------------------------------------------------------------------------

# Changes are perl's, over the whole header; each must change it, and compile.
try() { # "refused" or "allowed", what it is, the change, what the report says
    local changed=$folder/changed.h report
    perl -0pe "$3" "$header" >"$changed"
    if cmp -s "$changed" "$header"; then
        echo "$0: self-test: '$2' does not change the header any more: look at its pattern" >&2
        exit 1
    fi
    describe "$changed" "$folder/changed.abi" # a failure here is no refusal
    if report=$(compare "$folder/changed.abi" "$changed" 2>&1); then result=allowed; else result=refused; fi
    if [[ $result != "$1" ]] || ! grep -qF -- "${4:-0 Removed}" <<<"$report"; then
        printf '%s: self-test: %s was %s, not %s, or "%s" is not in the report:\n%s\n' \
            "$0" "$2" "$result" "$1" "${4:-}" "$report" >&2
        exit 1
    fi
    echo "$1: $2"
}

self_test() {
    local retriable='    int32_t \(\*retriable\)\(const struct octopus_error \*error\);\n'
    local release='(    void \(\*release\)\(struct octopus_error \*error\);\n)'
    local preparation='(    const struct octopus_preparation \*preparation;\n)'
    local appended="s/$release/\$1    int32_t (*another)(void);\n/"

    try allowed 'a slot is appended to a table' "$appended"
    try allowed 'a field is appended to a struct' "s/$preparation/\$1    uint64_t more;\n/"
    try allowed 'a table is appended' 's/(    const struct octopus_thread_pool_api \*thread_pool;\n)/$1    const void *more;\n/'
    try allowed 'a constant is appended' 's/(#define OCTOPUS_RESOURCE_LIMIT -18\n)/$1#define OCTOPUS_MORE -19\n/'

    try refused 'a slot is removed' "s/$retriable//" octopus_error_api__retriable
    try refused 'the last slot is removed' "s/$release//" octopus_error_api__release
    try refused 'a slot is removed and another appended' "s/$retriable//; $appended" octopus_error_api__retriable
    try refused 'a slot is put in front of others' "s/($retriable)/    int32_t (*another)(void);\n\$1/" \
        octopus_error_api__stored_is_at
    try refused 'two fields change places' \
        's/(    uint64_t segment_count;\n)(.*?)(    uint64_t partition;\n)/$3$2$1/s' octopus_push_args__partition_is_at
    try refused 'two fields of one type in a table of tables change places' \
        's/(    const struct octopus_driver_api \*driver;\n)(    const struct octopus_topic_api \*topic;\n)/$2$1/' \
        octopus_api__driver_is_at
    try refused 'a result gets another type' 's/int32_t \(\*retriable\)/int64_t (*retriable)/' octopus_error_api__retriable
    try refused 'a result gets another type and a slot is appended' \
        "s/int32_t \\(\\*retriable\\)/int64_t (*retriable)/; $appended" octopus_error_api__retriable
    try refused 'an argument gets another type' 's/(\(\*close\)\(.*?)int64_t timeout_ms/$1uint64_t timeout_ms/s' __close
    try refused 'an argument is appended' 's/(\(\*flush\)\(.*?)(struct octopus_error)/$1uint64_t more, $2/s' __flush
    try refused 'a field gets another type' 's/uint32_t has_partition;/int32_t has_partition;/' has_partition
    try refused 'a field is larger' 's/uint32_t abi_minor;/uint64_t abi_minor;/' octopus_api__abi_minor
    try refused 'a struct without a size grows' 's/(    const char \*data;\n    uint64_t size;\n)/$1    uint64_t more;\n/' \
        octopus_text
    try refused 'a callback grows' \
        's/(    int32_t \(\*function\)\(void \*context, struct octopus_event \*event\);\n)/$1    void *more;\n/' \
        octopus_processor
    try refused 'a constant gets another value' 's/OCTOPUS_CLOSED 3/OCTOPUS_CLOSED 5/' OCTOPUS_CLOSED_is
    try refused 'a constant is removed' 's/#define OCTOPUS_PRIORITY_HIGHEST .*//' OCTOPUS_PRIORITY_HIGHEST
    try refused 'the entry gets another argument' 's/(\*octopus_register)\(uint32_t/$1(uint64_t/' octopus_register__entry

    perl -0pe "s/$preparation/\$1    uint32_t more;\n/" "$header" >"$folder/changed.h"
    if describe "$folder/changed.h" "$folder/changed.abi" 2>"$folder/complaint"; then
        echo "$0: self-test: a struct that ends in padding was described" >&2
        exit 1
    fi
    grep -q 'octopus_push_args ends in padding' "$folder/complaint"
    echo 'refused: a struct ends in padding'
}

case "${1:-}" in
    '')
        if ! check "$header"; then
            cat >&2 <<TEXT
$header breaks hosts that were built with the ABI in $accepted, as said above.
Append instead: new fields and slots at the end of what begins with its size. If it is to break, count OCTOPUS_ABI_MINOR up
(in major 0, else OCTOPUS_ABI_MAJOR; src/abi/mod.rs) and accept the new one: ci/abi.sh --accept
TEXT
            exit 1
        fi
        echo "$header: $(fields "$header" | wc -l) fields and slots, and all constants, as accepted or appended"
        ;;
    --accept)
        mkdir -p "$(dirname "$accepted")"
        describe "$header" "$accepted"
        echo "$accepted is the ABI of $header now"
        ;;
    --self-test)
        check "$header" >/dev/null
        self_test
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
