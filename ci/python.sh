#!/usr/bin/env bash
# Installs the Python packages of the tests, mostly independent clients, and prints the path of the
# Python that has them.
set -euo pipefail
cd "$(dirname "$0")/.."

# The clients, three codecs of kafka-python, and the checker of types.
readonly packages=(diaspora-event-sdk==0.5.1 globus-sdk==4.5.0 kafka-python==2.3.3
    lz4==4.4.5 python-snappy==0.7.3 zstandard==0.25.0 mypy==2.4.1)
store=$(ci/target.sh)/python
readonly store

give_up() {
    echo "python.sh: $*" >&2
    exit 1
}

# The name of the folder is a hash of the packages. The lock has other runs wait for the one that
# installs.
wanted=$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c1-16)
readonly home=$store/$wanted
if [[ ! -e $home/complete ]]; then
    command -v python3 >/dev/null || give_up "python3 is missing (Debian: apt install python3 python3-venv)"
    mkdir -p "$store"
    (
        flock 9
        [[ ! -e $home/complete ]] || exit 0
        rm -rf "$home"
        python3 -m venv "$home" >&2 || give_up "python3 can't create a virtual environment (Debian: apt install python3-venv)"
        "$home/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2 ||
            give_up "pip could not fetch ${packages[*]}"
        touch "$home/complete"
    ) 9>"$store/lock"
fi
echo "$home/bin/python"
