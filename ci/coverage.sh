#!/usr/bin/env bash
# Checks docs/coverage.md: each test that it names must exist, each function of the C ABI must have
# a row, and each row must name a test.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/coverage.md
failed=0
report_error() {
    printf '%s: %s\n' "$page" "$1" >&2
    failed=1
}

tests_of() { # file, module: the names of its tests; it may have none
    { grep -A4 '^ *#\[test\]' "$1" || true; } | sed -n "s/^ *fn \([a-z0-9_]*\)().*/$2::\1/p"
}

# Tests are functions behind #[test], in files that are named as the modules are:
# `topics::invalid_topic_name_is_rejected…`.
mapfile -t existing < <(
    for file in plugin-tests/tests/suite/*.rs; do
        module=$(basename "$file" .rs)
        tests_of "$file" "$module"
    done
    while read -r file; do
        module=${file#src/} module=${module%.rs} module=${module%/mod} module=${module%/tests}
        tests_of "$file" "${module//\//::}"
    done < <(find src -name '*.rs')
    # Tests in C++ are entries of the list of their program, those in Python are methods:
    # `diaspora::selections::stacked_…`.
    for file in plugin-tests/diaspora/*.cpp; do
        sed -n "s/.*TEST_CASE(\([a-z0-9_]*\)).*/diaspora::$(basename "$file" .cpp)::\1/p" "$file"
    done
    sed -n 's/^    def \(test_[a-z0-9_]*\)(self).*/diaspora::python_binding::\1/p' plugin-tests/diaspora/python_binding.py
)
declare -A is_test
for name in "${existing[@]}"; do
    is_test[$name]=1
done

named=0
while read -r name; do
    named=$((named + 1))
    [[ -n ${is_test[$name]:-} ]] || report_error "it names $name, which does not exist"
done < <(grep -o '`[a-z_]*\(::[a-z0-9_]*\)\+`' "$page" | tr -d '`' | sort -u)

# The last cell of a row has its tests.
while IFS= read -r row; do
    [[ $row =~ \`[a-z_]+::[a-z0-9_:]+\`\ *\|$ ]] || report_error "this row names no test: $row"
done < <(grep '^| ' "$page" | grep -v '^| \(promise\|function\|C++ Octopus\|bad input\) ' | grep -v '^| ---')

# The slots of the header are the function pointers in each `struct octopus_…_api`.
while read -r slot; do
    grep -q "^| \`$slot\`" "$page" || report_error "the function $slot has no row"
done < <(awk '
    /^typedef struct octopus_[a-z_]*_api \{/ { table = $3; sub(/^octopus_/, "", table); sub(/_api$/, "", table); next }
    /^\} octopus_[a-z_]*_api;/ { table = "" }
    table && match($0, /\(\*[a-z_]+\)\(/) { print table "." substr($0, RSTART + 2, RLENGTH - 4) }
' include/octopus.h)

if [[ $failed == 0 ]]; then
    printf '%s names %d tests, all of which exist\n' "$page" "$named"
fi
exit "$failed"
