#!/usr/bin/env bash
# Searches the output of the tests, which includes each log message, error and description of the
# plugin at all levels, for the secrets that the tests use. All of these contain the same words, so
# that they are also found within tokens, in base64, or in part.
#
#   ci/secrets.sh FOLDER        fails if a file in FOLDER has a secret, or if there is nothing to search
#   ci/secrets.sh --self-test   verifies that it finds one of each kind
set -euo pipefail

readonly words='octopus-test-secret'
# Parts of an Amazon MSK token, which is a credential like a password: in plain text, as signed, and
# as sent.
readonly of_tokens=('X-Amz-Signature' 'X-Amz-Security-Token')

# Prints the base64 forms of a text at each alignment (after 0, 1 or 2 other bytes), without the
# characters that depend on the neighboring bytes.
within_base64() {
    local text=$1 before encoded
    for before in '' x xx; do
        encoded=$(printf '%s%s' "$before" "$text" | base64 -w0 | tr -d =)
        encoded=${encoded:$(((${#before} * 8 + 5) / 6))}
        printf '%s\n' "${encoded:0:$((${#text} * 8 / 6 - 1))}"
        printf '%s\n' "${encoded:0:$((${#text} * 8 / 6 - 1))}" | tr '+/' '-_'
    done
}

patterns() {
    local text
    for text in "$words" "${of_tokens[@]}"; do
        printf '%s\n' "$text"
        within_base64 "$text"
    done | sort -u
}

# Some tests keep logs in lower case.
search() { grep -r -n -i -F -f <(patterns) -- "$1" | cut -c1-300; }

self_test() {
    local folder planted missed=0
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    for planted in "password=$words-of-alice" "OCTOPUS-TEST-SECRET" "X-Amz-Signature=00ff" \
        "token $(printf '{"sub":"%s"}' "$words" | base64 -w0)" "token $(printf 'a%s' "$words" | base64 -w0)" \
        "token $(printf 'https://x/?a=b&X-Amz-Signature=00ff' | base64 -w0)"; do
        printf 'a line before\n%s\na line behind\n' "$planted" >"$folder/planted.log"
        search "$folder" >/dev/null || { echo "secrets.sh: self-test: not found: $planted" >&2 && missed=1; }
    done
    printf 'nothing to hide\n' >"$folder/planted.log"
    ! search "$folder" >/dev/null || { echo "secrets.sh: self-test: found a secret in a text without one" >&2 && missed=1; }
    exit "$missed"
}

[[ ${1:-} != --self-test ]] || self_test
folder=${1:?a folder, or --self-test}
lines=$(cat "$folder"/* | wc -l)
# The tests print tens of thousands of lines, so a few lines mean that the wrong folder is searched.
((lines > 1000)) || { echo "secrets.sh: there are only $lines lines in $folder: are these the tests' logs?" >&2 && exit 1; }
if found=$(search "$folder"); then
    printf 'secrets.sh: the output of the tests contains secrets:\n%s\n' "$(head -20 <<<"$found")" >&2
    exit 1
fi
echo "no secret in $lines lines of $(find "$folder" -type f | wc -l) files"
