#!/usr/bin/env bash
# Compares the ABI of include/octopus.h with the accepted one: fields, slots, arguments and
# constants that hosts were built with must keep their types, places and values. Appending is
# allowed, and giving a reserved field a name and a meaning in which 0 is what was before.
#
#   ci/abi.sh               compares with plugin-tests/abi/octopus.abi
#   ci/abi.sh --accept      writes the header's ABI as the accepted one
#   ci/abi.sh --self-test   verifies, on changed copies of the header, which changes are refused and which allowed
#
# Tests verify that the library has the types of the header (plugin-tests/tests/suite/header.rs) and
# their layout (src/abi/layout.rs).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly header=include/octopus.h
readonly accepted=plugin-tests/abi/octopus.abi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Structs that begin with their size may grow. Each of their fields is compared separately, since
# abidiff can't allow growth alone: it reports a grown struct as changed, and a suppression of that
# hides moved and retyped fields, too.
fields() { # header: "struct field" for each field of the structs that may grow
    awk '
        /^typedef struct octopus_[a-z_]* \{/ { name = $3; statement = ""; count = 0; next }
        /^\} octopus_[a-z_]*;/ { name = "" }
        !name || /^ *\/?\*/ { next }
        { statement = statement " " $0 }
        /;$/ {
            if (match(statement, /\(\*[a-z0-9_]+\)/)) field = substr(statement, RSTART + 2, RLENGTH - 3)
            else { match(statement, /[a-z0-9_]+;/); field = substr(statement, RSTART, RLENGTH - 1) }
            if (count++ == 0) grows = statement ~ /^ +uint64_t size;$/
            if (grows) print name, field
            statement = ""
        }
    ' "$1"
}

# Prints a C program whose symbols are what hosts depend on: the entry, the type and offset of each
# such field, each constant.
program() { # header
    local name field
    echo '#include <stddef.h>'
    echo '#include "octopus.h"'
    echo '__typeof__(octopus_register) *octopus_register__entry;'
    declare -A last=()
    while read -r name field; do
        last[$name]=$field
        [[ $field != reserved ]] || continue
        echo "__typeof__(((${name} *)0)->${field}) ${name}__${field};"
        echo "enum ${name}__${field} { ${name}__${field}_is_at = offsetof(${name}, ${field}) } ${name}__${field}_place;"
    done < <(fields "$1")
    # Padding at the end is an error: a field that is added there would be within the size of older
    # structs, which don't set it.
    for name in "${!last[@]}"; do
        field=${last[$name]}
        echo "_Static_assert(sizeof(${name}) == offsetof(${name}, ${field}) + sizeof(((${name} *)0)->${field})," \
            "\"${name} ends in padding: append a reserved field\");"
    done
    sed -n 's/^#define \(OCTOPUS_[A-Z_]*\) [^\\]*$/\1/p' "$1" | while read -r name; do
        echo "enum ${name}_value { ${name}_is = ${name} } ${name}_constant;"
    done
}

# The commands are chained since `set -e` has no effect within an `if`.
describe() { # header, description
    local unit=$folder/octopus
    mkdir -p "$folder/include" &&
        cp "$1" "$folder/include/octopus.h" &&
        program "$1" >"$unit.c" &&
        cc -std=gnu11 -Wall -Wextra -Werror -g -shared -fPIC -I "$folder/include" -o "$unit.so" "$unit.c" &&
        abidw --no-show-locs --no-corpus-path --no-comp-dir-path --no-architecture --no-elf-needed --out-file "$2" "$unit.so"
}

compare() { # description, header with the structs that may grow
    local growing
    growing=$(fields "$2" | cut -d' ' -f1 | sort -u | paste -sd'|')
    printf '[suppress_type]\n  type_kind = struct\n  name_regexp = ^(%s)$\n' "$growing" >"$folder/grows.ini"
    abidiff --no-added-syms --suppressions "$folder/grows.ini" "$accepted" "$1"
}

check() { # header
    describe "$1" "$folder/now.abi" || exit # without a description nothing can be compared
    compare "$folder/now.abi" "$header"
}

# ---- the self-test -------------------------------------------------------------------------------

# A change is a Perl substitution over the whole header. It must change the header, and the result
# must compile.
try() { # "refused" or "allowed", description, substitution, a part of the expected report
    local changed=$folder/changed.h report
    perl -0pe "$3" "$header" >"$changed"
    if cmp -s "$changed" "$header"; then
        echo "$0: self-test: '$2' no longer changes the header: correct its pattern" >&2
        exit 1
    fi
    describe "$changed" "$folder/changed.abi" # a failure here ends the script, it does not count as refused
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
    local last='(    int32_t \(\*skipped\)\([^;]*\);\n)'
    local last_field='(    uint32_t reserved;\n)(\} octopus_push_attributes;)'
    local appended="s/$last/\$1    int32_t (*another)(void);\n/"

    try allowed 'a slot is appended to a table' "$appended"
    try allowed 'a field is appended to a struct' "s/$last_field/\$1    uint64_t more;\n\$2/"
    try allowed 'a reserved field gets a name' "s/$last_field/    uint32_t more;\n\$2/"
    try allowed 'a table is appended' 's/(    const struct octopus_thread_pool_api \*thread_pool;\n)/$1    const void *more;\n/'
    try allowed 'a constant is appended' 's/(#define OCTOPUS_RESOURCE_LIMIT -18\n)/$1#define OCTOPUS_MORE -19\n/'

    try refused 'a slot is removed' "s/$retriable//" octopus_error_api__retriable
    try refused 'the last slot is removed' "s/$last//" octopus_error_api__skipped
    try refused 'a slot is removed and another appended' "s/$retriable//; $appended" octopus_error_api__retriable
    try refused 'a slot is put in front of others' "s/($retriable)/    int32_t (*another)(void);\n\$1/" \
        octopus_error_api__persisted_is_at
    try refused 'two fields change places' \
        's/(    uint64_t segment_count;\n)(.*?)(    uint64_t partition;\n)/$3$2$1/s' octopus_push_args__partition_is_at
    try refused 'two fields of one type in a table of tables change places' \
        's/(    const struct octopus_driver_api \*driver;\n)(.*?)(    const struct octopus_topic_api \*topic;\n)/$3$2$1/s' \
        octopus_api__driver_is_at
    try refused 'a result gets another type' 's/int32_t \(\*retriable\)/int64_t (*retriable)/' octopus_error_api__retriable
    try refused 'a result gets another type and a slot is appended' \
        "s/int32_t \\(\\*retriable\\)/int64_t (*retriable)/; $appended" octopus_error_api__retriable
    try refused 'an argument gets another type' 's/(\(\*close\)\(.*?)int64_t timeout_ms/$1uint64_t timeout_ms/s' __close
    try refused 'an argument is appended' 's/(\(\*flush\)\(.*?)(struct octopus_error)/$1uint64_t more, $2/s' __flush
    try refused 'a field gets another type' 's/uint32_t has_partition;/int32_t has_partition;/' has_partition
    try refused 'a field is larger' 's/uint32_t abi_minor;/uint64_t abi_minor;/' octopus_api__abi_minor
    try refused 'a struct without a size grows' 's/(    const char \*data;\n.*?    uint64_t size;\n)/$1    uint64_t more;\n/s' \
        octopus_text
    try refused 'a callback grows' \
        's/(    int32_t \(\*function\)\(void \*context, struct octopus_event \*event\);\n)/$1    void *more;\n/' \
        octopus_processor
    try refused 'a constant gets another value' 's/OCTOPUS_CLOSED 3/OCTOPUS_CLOSED 5/' OCTOPUS_CLOSED_is
    try refused 'a constant is removed' 's/#define OCTOPUS_PRIORITY_HIGHEST .*//' OCTOPUS_PRIORITY_HIGHEST
    try refused 'the entry gets another argument' 's/(\*octopus_register)\(uint32_t/$1(uint64_t/' octopus_register__entry

    perl -0pe "s/$last_field/\$1    uint32_t more;\n\$2/" "$header" >"$folder/changed.h"
    if describe "$folder/changed.h" "$folder/changed.abi" 2>"$folder/errors"; then
        echo "$0: self-test: a struct that ends in padding was described" >&2
        exit 1
    fi
    grep -q 'octopus_push_attributes ends in padding' "$folder/errors"
    echo 'refused: a struct ends in padding'
}

case "${1:-}" in
    '')
        if ! check "$header"; then
            cat >&2 <<TEXT
$header breaks hosts that were built with the ABI in $accepted; see the report above.
Append new fields and slots at the end of structs that begin with their size. To break the ABI on purpose, increment
OCTOPUS_ABI_MINOR (in major 0, else OCTOPUS_ABI_MAJOR; src/abi/mod.rs) and run: ci/abi.sh --accept
TEXT
            exit 1
        fi
        echo "$header: $(fields "$header" | wc -l) fields and slots and all constants are as accepted or appended"
        ;;
    --accept)
        mkdir -p "$(dirname "$accepted")"
        describe "$header" "$accepted"
        echo "$accepted now has the ABI of $header"
        ;;
    --self-test)
        check "$header" >/dev/null
        self_test
        ;;
    *)
        sed -n '2,12s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
