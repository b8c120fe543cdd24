#!/usr/bin/env bash
# Checks the pages: links, spelling, form, and the code blocks of README.md and docs/guide.
#
#   ci/docs.sh                                    checks the pages, without a build
#   ci/docs.sh --self-test                        verifies that each kind of problem is noticed
#   ci/with-kafka.sh ci/docs.sh --run [PAGE...]   executes the blocks, after the release build
#
# The marker above a block says how it is tested: ci/docs/README.md. The tools (remark, markdownlint
# and codespell, in the versions of ci/docs) are installed below the target directory if missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly pins=(ci/docs/package.json ci/docs/package-lock.json ci/docs/requirements.txt)

give_up() {
    echo "ci/docs.sh: $*" >&2
    exit 1
}

# The name of the folder is a hash of the versions. The lock has other runs wait for the one that
# installs.
install_tools() { # sets `tools`
    local store
    store=$(ci/target.sh)/tools
    tools=$store/docs-$(cat "${pins[@]}" | sha256sum | cut -c1-16)
    mkdir -p "$store"
    if [[ ! -e $tools/complete ]]; then
        command -v npm >/dev/null || give_up 'npm is missing; install nodejs and npm'
        (
            flock 9
            [[ ! -e $tools/complete ]] || exit 0
            rm -rf "$tools"
            mkdir "$tools"
            cp "${pins[@]}" "$tools"
            npm ci --silent --no-fund --no-audit --prefix "$tools" >&2 || give_up 'npm could not install ci/docs/package.json'
            python3 -m venv "$tools/python" >&2 ||
                give_up "python3 can't create a virtual environment (Debian: apt install python3-venv)"
            "$tools/python/bin/pip" install --quiet --disable-pip-version-check --requirement ci/docs/requirements.txt >&2 ||
                give_up 'pip could not install ci/docs/requirements.txt'
            touch "$tools/complete"
        ) 9>"$store/docs.lock"
    fi
    # remark looks for its plugins beside its configuration.
    cp ci/docs/links.json "$tools"
}

command -v python3 >/dev/null || give_up 'python3 is missing (Debian: apt install python3 python3-venv)'
export PYTHONDONTWRITEBYTECODE=1
case ${1-} in
'')
    install_tools
    python3 ci/docs/check.py "$tools"
    ;;
--self-test)
    install_tools
    python3 ci/docs/self_test.py "$tools"
    ;;
--run) python3 ci/docs/run.py "${@:2}" ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
