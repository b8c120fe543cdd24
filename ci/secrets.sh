#!/usr/bin/env bash
# Searches what the tests' programs said - their output, and every message, error and description of the plugin, at all
# levels - for the secrets that the tests use. All of these have the same words in them, so that they are found also within
# a token, in base64, or in part.
#
#   ci/secrets.sh FOLDER        fails when a file in there has a secret, or when there is nothing to search
#   ci/secrets.sh --self-test   plants one of each kind, and fails unless each is found
set -euo pipefail

readonly words='octopus-test-secret'
# Parts of an Amazon MSK token, which is as good as a password: in clear, as it is signed, and as it is sent.
readonly of_tokens=('X-Amz-Signature' 'X-Amz-Security-Token')

# A text as it stands within base64, behind 0, 1 or 2 bytes more: without the characters that its neighbours change.
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
        search "$folder" >/dev/null || { echo "secrets.sh: not found when planted: $planted" >&2 && missed=1; }
    done
    printf 'nothing to hide\n' >"$folder/planted.log"
    ! search "$folder" >/dev/null || { echo "secrets.sh: found where there is none" >&2 && missed=1; }
    exit "$missed"
}

[[ ${1:-} != --self-test ]] || self_test
folder=${1:?a folder, or --self-test}
lines=$(cat "$folder"/* | wc -l)
# The tests say tens of thousands of lines; with hardly any, something else is searched than was meant.
((lines > 1000)) || { echo "secrets.sh: there are only $lines lines in $folder: are these the tests' logs?" >&2 && exit 1; }
if found=$(search "$folder"); then
    printf 'secrets.sh: the tests showed secrets:\n%s\n' "$(head -20 <<<"$found")" >&2
    exit 1
fi
echo "no secret in $lines lines of $(find "$folder" -type f | wc -l) files"
