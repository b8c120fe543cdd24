#!/usr/bin/env bash
# Checks docs/promises.md: each line of a table has a promise and the tests that show it, and all of
# them exist: tests of the suite, of src, of the C++ adapter and of the Python package, rows of the
# fault matrix, and scripts that ci/test.sh runs. It reads the sources, so nothing is built.
#
#   ci/promises.sh               runs the check, as CI does
#   ci/promises.sh --self-test   verifies that each kind of error is noticed
set -euo pipefail
cd "$(dirname "$0")/.."

readonly page=docs/promises.md

tests_of() { # file, module: the tests, which are functions behind #[test]
    awk -v module="$2" '
        /^ *#\[test\]/ { is_test = 1 }
        is_test && match($0, /fn [a-z0-9_]+\(/) { print module "::" substr($0, RSTART + 3, RLENGTH - 4); is_test = 0 }
    ' "$1"
}

# Prints each name that the page may use for a test.
existing() {
    local file module
    # The file has the name of the module: `topics::invalid_topic_name_is_rejected…`.
    while read -r file; do
        module=${file#plugin-tests/tests/suite/} module=${module%.rs} module=${module%/mod}
        tests_of "$file" "${module//\//::}"
    done < <(find plugin-tests/tests/suite -name '*.rs')
    while read -r file; do
        module=${file#src/} module=${module%.rs} module=${module%/mod} module=${module%/tests}
        tests_of "$file" "${module//\//::}"
    done < <(find src -name '*.rs')
    # A test in C++ is an entry in the list of its program, a test in Python is a method.
    while read -r file; do
        grep -o 'TEST_CASE([a-z0-9_]*)' "$file" | sed "s/TEST_CASE(\(.*\))/diaspora::$(basename "$file" .cpp)::\1/"
    done < <(grep -l 'TEST_CASE(' plugin-tests/diaspora/*.cpp)
    sed -n 's/^    def \(test_[a-z0-9_]*\)(self).*/diaspora::python_binding::\1/p' plugin-tests/diaspora/python_binding.py
    while read -r file; do
        module=${file#plugin-tests/python/} module=${module%.py} module=${module/tests\/test_/} module=${module/test_/}
        sed -n "s/^    \(async \)\{0,1\}def \(test_[a-z0-9_]*\)(.*/python::${module//\//::}::\2/p" "$file"
    done < <(find plugin-tests/python/tests plugin-tests/python/proxies -name 'test_*.py')
    sed -n 's/^ *Row { number: \([0-9]*\),.*/row \1/p' plugin-tests/faults/rows/mod.rs
    for file in ci/*.sh; do
        ! grep -q "^ *\(run_unless_skipped \)\{0,1\}$file" ci/test.sh || printf '%s\n' "$file"
    done
}

# Prints the errors of the page on the standard input, or nothing.
check() { # the existing names, one a line
    awk -v names="$1" '
        function error(what) { printf "%d: %s\n", NR, what }
        BEGIN { split(names, list, "\n"); for (at in list) exists[list[at]] = 1 }
        /^\| promise \| tests \|$/ || /^\| --- \| --- \|$/ { next }
        /^\|/ {
            rows++
            if (split($0, cells, / *\| */) != 4) { error("a line has two cells, a promise and its tests: " $0); next }
            if (cells[2] == "") error("a line has no promise: " $0)
            if (cells[2] in line) error("this promise is also in line " line[cells[2]] ": " cells[2])
            line[cells[2]] = NR
            count = split(cells[3], tests, /, */)
            if (count == 0) error("this promise names no test: " cells[2])
            for (at = 1; at <= count; at++) {
                name = tests[at]
                if (name !~ /^`.+`$/) { error("tests are in backticks, with commas between them: " name); continue }
                name = substr(name, 2, length(name) - 2)
                if (!(name in exists)) error("it names " name ", which does not exist")
            }
        }
        END { if (rows < 50) error("it has only " rows + 0 " promises: is this the right page?") }
    '
}

self_test() {
    local names errors failed=0 planted=0
    names=$(existing)
    errors=$(check "$names" <"$page")
    if [[ -n $errors ]]; then
        printf 'ci/promises.sh: the page itself has errors, so planted ones prove nothing:\n%s\n' "$errors" >&2
        return 1
    fi
    # Changes a copy of the page, whose check must report the error.
    plant() { # description, change for sed, part of the expected report
        local copy
        copy=$(sed "$2" "$page")
        planted=$((planted + 1))
        if [[ $copy == "$(cat "$page")" ]]; then
            printf 'ci/promises.sh: self-test: "%s" no longer changes the page: correct its pattern\n' "$1" >&2
            failed=1
        elif errors=$(check "$names" <<<"$copy") && ! grep -qF -- "$3" <<<"$errors"; then
            printf 'ci/promises.sh: self-test: %s is not noticed, but: %s\n' "$1" "${errors:-nothing}" >&2
            failed=1
        fi
    }
    plant 'a test of the suite that does not exist' 's/`pulls::dropped_/`pulls::lost_/' 'names pulls::lost_'
    plant 'a unit test that does not exist' 's/`json::any_/`json::each_/' 'names json::each_'
    plant 'a test in another module' 's/`pulls::dropped_/`positions::dropped_/' 'names positions::dropped_'
    plant 'a function that is no test' 's/`pulls::dropped_pull[^`]*`/`hosts::compile_linked`/' 'names hosts::compile_linked'
    plant 'a test in C++ that does not exist' 's/`diaspora::consuming::/`diaspora::eating::/' 'names diaspora::eating::'
    plant 'a test in Python that does not exist' 's/`diaspora::python_binding::test_/&no_/' 'names diaspora::python_binding::test_no_'
    plant 'a test of the Python package that does not exist' 's/`python::memory::test_/&no_/' 'names python::memory::test_no_'
    plant 'a fault row that does not exist' 's/`row 19`/`row 99`/' 'names row 99'
    plant 'a script that does not exist' 's,`ci/abi.sh`,`ci/api.sh`,' 'names ci/api.sh'
    plant 'a script that ci/test.sh does not run' 's,`ci/abi.sh`,`ci/bench.sh`,' 'names ci/bench.sh'
    plant 'a line without a test' 's/^\(| A consumer keeps its partitions.*|\) .* |$/\1 |/' 'names no test: A consumer keeps'
    plant 'a line with a word for a test' 's/`row 19`/see above/' 'in backticks, with commas between them: see above'
    plant 'a line without a promise' 's/^| A consumer keeps its partitions[^|]*|/| |/' 'a line has no promise'
    plant 'a line with one cell' 's/^| A consumer keeps its partitions[^|]*|/|/' 'a line has two cells'
    plant 'a promise that is there twice' '/^| A consumer keeps its partitions/p' 'this promise is also in line'
    plant 'a page without tables' '/^|/d' 'only 0 promises'
    [[ $failed == 0 ]] && printf 'ci/promises.sh: each of %d planted errors is noticed\n' "$planted"
}

case ${1-} in
'')
    names=$(existing)
    errors=$(check "$names" <"$page")
    if [[ -n $errors ]]; then
        sed "s,^,$page:," <<<"$errors" >&2
        exit 1
    fi
    printf '%s: %d promises, and their tests exist\n' "$page" "$(($(grep -c '^| ' "$page") - 2 * $(grep -c '^| promise' "$page")))"
    ;;
--self-test) self_test ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
