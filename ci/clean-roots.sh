#!/usr/bin/env bash
# Follows the ways to install Octopus in clean root file systems of Debian, as a user of a new
# machine would.
#
#   ci/clean-roots.sh packages [DIR]   tries the packages of ci/package.sh (target/packages) in Debian 11 and 13
#   ci/clean-roots.sh sources          builds from the sources of this commit in Debian 13
#
# It fails if the quickstart or the release build take more time of the processor than allowed. It
# needs root and debootstrap, and takes some 20 minutes. The mirror is that of this machine. Only
# Rust comes from this machine, since rustup does not install it from packages; cargo's cache of
# crates is empty.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly repository=$PWD

fail() {
    echo "ci/clean-roots.sh: $*" >&2
    exit 1
}

[[ ${1-} == packages || ${1-} == sources ]] || { sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 2; }
packages=$(realpath -m "${2:-$(ci/target.sh)/packages}")
readonly packages version=0.1.0
# Seconds of the processor, which depend little on other jobs of the machine: from an empty cache of
# crates to the last line of the quickstart, and the release build with all default features.
readonly max_quickstart=360 max_install=1080
[[ $1 == sources || -f $packages/SHA256SUMS ]] || fail "$packages has no packages: run ci/package.sh"
[[ $(id -u) == 0 ]] || fail 'only root can make a root file system'
command -v debootstrap >/dev/null || fail 'debootstrap is missing (Debian: apt install debootstrap)'
mirror=$(find /etc/apt \( -name '*.list' -o -name '*.sources' \) -exec sed -n 's/^URIs: //p; s/^deb [^#]*\(http[^ ]*\).*/\1/p' {} + |
    grep -v security | head -1)
[[ -n $mirror ]] || fail 'this machine has no mirror of Debian in /etc/apt'
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

# --- root file systems ----------------------------------------------------------------------------

make_root() { # suite, folder
    debootstrap --variant=minbase --include=ca-certificates "$1" "$2" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap of $1 failed: $(tail -5 "$work/debootstrap.log")"
    # Authorities that this machine trusts in addition, such as that of an institution's proxy.
    if [[ -n $(find /usr/local/share/ca-certificates -name '*.crt' 2>/dev/null) ]]; then
        cp -r /usr/local/share/ca-certificates "$2/usr/local/share/"
        inside "$2" update-ca-certificates >"$work/authorities.log" 2>&1 || fail "update-ca-certificates failed: $(cat "$work/authorities.log")"
    fi
}

# Runs a command in a root with an environment of its own. Its processes end with it.
inside() { # root, command...
    unshare --mount --pid --fork --kill-child bash -c '
        set -e
        root=$1
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        cp /etc/resolv.conf "$root/etc/resolv.conf"
        for folder in "${HOME:-/root}/.rustup" "$OCTOPUS_REPOSITORY"; do
            [[ ! -d $root/host$folder ]] || mount --bind -o ro "$folder" "$root/host$folder"
        done
        exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PIP_CERT=/etc/ssl/certs/ca-certificates.crt bash -euo pipefail -c "$2"' bash "$1" "${*:2}"
}
export OCTOPUS_REPOSITORY=$repository

# expect TEXT ROOT COMMAND: runs a command in a root, whose output must have this text.
expect() {
    local printed
    printed=$(inside "${@:2}" 2>&1) || fail "failed in $2: ${*:3}: $printed"
    [[ $printed == *"$1"* ]] || fail "${*:3} printed \"$printed\", expected \"$1\""
}

begin() {
    started=$SECONDS
    path=$1
}

finish() {
    printf '%-70s %4d s%s\n' "$path" $((SECONDS - started)) "${1:+, $1}"
}

install_packages() { # root, package...
    inside "$1" "apt-get update -qq && apt-get install -qq --yes --no-install-recommends ${*:2}" >"$work/apt.log" 2>&1 ||
        fail "apt-get in $1 failed: $(tail -5 "$work/apt.log")"
}

# --- the packages ---------------------------------------------------------------------------------

# Builds the programs of ci/install-paths.sh with the root's compilers.
build_linked() { # root, options...
    inside "$1" "cd /project && cc -std=c11 -o linked linked.c ${*:2}"
}

try_archive() { # root, name
    inside "$1" "mkdir -p /opt && tar -xzf /packages/$2-$version-linux-x86_64.tar.gz -C /opt"
    local prefix=/opt/$2-$version
    build_linked "$1" '$(PKG_CONFIG_PATH='"$prefix"'/lib/pkgconfig pkg-config --cflags --libs octopus)' "-Wl,-rpath,$prefix/lib"
    expect "Octopus $version" "$1" /project/linked
    inside "$1" "cmake -S /project -B /build -D CMAKE_PREFIX_PATH=$prefix && cmake --build /build" >"$work/cmake.log" 2>&1 ||
        fail "cmake in $1 failed: $(tail -20 "$work/cmake.log")"
    expect "Octopus $version" "$1" /build/linked
    expect 'stored at offset 0' "$1" "OCTOPUS_LIBRARY=$prefix/lib/liboctopus.so /build/found"
    inside "$1" "rm -r $prefix /build /project/linked"
}

try_deb() { # root
    inside "$1" "dpkg --install /packages/diaspora-octopus_${version}_amd64.deb" >/dev/null
    build_linked "$1" -loctopus
    expect "Octopus $version" "$1" /project/linked
    inside "$1" 'c++ -std=c++17 -o /project/found /project/found.cpp $(pkg-config --cflags octopus) -pthread -ldl'
    expect 'stored at offset 0' "$1" /project/found
    inside "$1" 'dpkg --remove diaspora-octopus && [[ -z $(find /usr -name "*octopus*") ]]' >/dev/null ||
        fail "left of the .deb: $(inside "$1" 'find /usr -name "*octopus*"')"
    expect 'it was not found' "$1" '! /project/found'
    inside "$1" 'rm /project/found /project/linked'
}

try_wheel() { # root
    inside "$1" 'python3 -m venv /venv && /venv/bin/pip install --quiet --no-index /packages/diaspora_octopus-*.whl'
    expect "{'celsius': 21.5} 11 /venv/lib" "$1" '/venv/bin/python /project/first.py'
    inside "$1" 'rm -r /venv'
}

# A package manager of conda installs it on this machine; the environment then runs in the root.
try_conda() { # root
    rm -rf "$work/channel"
    mkdir -p "$work/channel/linux-64"
    cp "$packages/diaspora-octopus-$version-0.tar.bz2" "$work/channel/linux-64"
    "$work/tools/bin/python" - "$work/channel" "$1/opt/environment" <<'END'
import asyncio
import os
import sys

from rattler import VirtualPackage, install, solve
from rattler.index import index_fs


async def main(channel, prefix):
    await index_fs(channel)
    records = await solve(
        [f"file://{channel}"], ["diaspora-octopus"], platforms=["linux-64", "noarch"], virtual_packages=VirtualPackage.detect()
    )
    assert [record.name.normalized for record in records] == ["diaspora-octopus"], records
    await install(records, target_prefix=prefix)


asyncio.run(main(*sys.argv[1:]))
# Threads of rattler still use Python, which crashes while the interpreter ends.
os._exit(0)
END
    build_linked "$1" -I/opt/environment/include -L/opt/environment/lib -loctopus -Wl,-rpath,/opt/environment/lib
    expect "Octopus $version" "$1" /project/linked
    expect "{'celsius': 21.5} 11 /opt/environment/lib" "$1" \
        'CONDA_PREFIX=/opt/environment PYTHONPATH=/python python3 /project/first.py'
    inside "$1" 'rm -r /opt/environment /project/linked'
}

try_packages() { # suite, name
    local root=$work/$1
    begin "$2: a root file system with compilers"
    make_root "$1" "$root"
    install_packages "$root" gcc g++ make cmake pkg-config python3-venv
    mkdir "$root/packages"
    cp "$packages"/* "$root/packages"
    ci/install-paths.sh --project "$root/project"
    cp -r plugin-tests/python "$root/python"
    (cd "$packages" && sha256sum --quiet --check SHA256SUMS) || fail 'SHA256SUMS is wrong'
    finish
    local name
    for name in diaspora-octopus diaspora-octopus-no-aws; do
        [[ -f $packages/$name-$version-linux-x86_64.tar.gz ]] || continue
        begin "$2: $name-$version-linux-x86_64.tar.gz"
        try_archive "$root" "$name"
        finish
    done
    for name in deb wheel conda; do
        begin "$2: $name"
        "try_$name" "$root"
        finish
    done
    rm -rf --one-file-system "$root"
}

# The SBOM must follow its standard, and have a license for each component.
check_sbom() {
    begin 'SBOM'
    "$work/tools/bin/python" - "$packages/diaspora-octopus-$version.cdx.json" <<'END'
import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = Path(sys.argv[1]).read_text()
if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
    sys.exit(f"the SBOM is invalid: {problem}")
components = json.loads(text)["components"]
if missing := [component["name"] for component in components if not component.get("licenses")]:
    sys.exit(f"the SBOM has no licenses of {missing}")
END
    finish
}

# --- the sources ----------------------------------------------------------------------------------

# The time of the processor that a command in a root took is written to a file by its shell.
timed() { # root, command
    inside "$1" "cd /octopus; export $rust; $2; times >/times" || fail "failed in $1: $2"
}

processor_time() { # root
    awk 'NR == 2 { for (field = 1; field <= 2; field++) { split($field, part, /[ms]/); all += part[1] * 60 + part[2] } } END { printf "%.0f", all }' "$1/times"
}

check_time() { # root, limit, what was run: prints the time, and fails if it is above the limit
    local spent
    spent=$(processor_time "$1")
    ((spent <= $2)) || fail "$3 took $spent s of the processor, at most $2 s are allowed"
    echo "$spent of $2 s of the processor"
}

try_sources() {
    local spent
    local root=$work/sources
    begin 'Debian 13: what the build needs, by the command of docs/guide/first-event.md'
    make_root trixie "$root"
    install_packages "$root" "$(sed -n 's/^apt-get install //p' docs/guide/first-event.md)"
    finish
    mkdir -p "$root/host$HOME/.rustup" "$root/host$repository" "$root/root/.cargo"
    inside "$root" "git -c safe.directory='*' clone -q /host$repository /octopus"
    local toolchain
    toolchain=$(rustc --print sysroot)
    rust="RUSTUP_HOME=/host$HOME/.rustup PATH=/host$toolchain/bin:\$PATH"
    begin 'Debian 13: cargo quickstart, from an empty cache of crates'
    timed "$root" 'cargo quickstart >/output 2>&1 || (tail /output; false)'
    [[ $(tail -1 "$root/output") == *'events were delivered and read in order.' ]] || fail "the quickstart printed $(tail -3 "$root/output")"
    spent=$(check_time "$root" $max_quickstart 'cargo quickstart')
    finish "$spent"
    begin 'Debian 13: ci/install.sh'
    timed "$root" 'ci/install.sh --prefix /opt/octopus >/output 2>&1 || (tail /output; false)'
    spent=$(check_time "$root" $max_install 'ci/install.sh')
    finish "$spent"
    begin 'Debian 13: ci/wheel.sh'
    timed "$root" 'python3 -m venv /venv; /venv/bin/pip install --quiet "$(ci/wheel.sh)"'
    finish
    ci/install-paths.sh --project "$root/project"
    expect "{'celsius': 21.5} 11 /venv/lib" "$root" '/venv/bin/python /project/first.py'
    build_linked "$root" -I/opt/octopus/include -L/opt/octopus/lib -loctopus -Wl,-rpath,/opt/octopus/lib
    expect "Octopus $version" "$root" /project/linked
    begin 'Debian 13: the blocks of README.md and the guide, with the packages that they name'
    install_packages "$root" $(cat README.md docs/guide/*.md | tr '\n' ' ' | grep -o 'apt-get install [a-z0-9 +-]*' | cut -d' ' -f3-)
    timed "$root" 'ci/with-kafka.sh ci/docs.sh --run >/output 2>&1 || (grep -A 30 FAILED /output; false)'
    finish "$(tail -1 "$root/output")"
}

if [[ $1 == sources ]]; then
    try_sources
    exit
fi
begin 'the tools that check packages'
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check --requirement ci/package/test-requirements.txt
finish
check_sbom
try_packages bullseye 'Debian 11'
try_packages trixie 'Debian 13'
