#!/usr/bin/env bash
# Follows each way to install Octopus as a user would: installs it, builds programs against it
# outside of this repository, runs them, moves the installation, and removes it. It needs no Kafka
# and no root; pip fetches what builds the wheel.
#
#   ci/install-paths.sh [LIBRARY]        installs this liboctopus.so (default: that of the release build)
#   ci/install-paths.sh --full           also makes the packages, and follows everything in clean root file systems
#   ci/install-paths.sh --project DIR    only writes the programs that it builds
set -euo pipefail
cd "$(dirname "$0")/.."
readonly repository=$PWD
full=false project=''
case ${1-} in
    --full) full=true && shift ;;
    --project) project=$2 && shift 2 ;;
esac
library=${1:-$(ci/target.sh)/release/liboctopus.so}
[[ $library == /* ]] || library=$PWD/$library
work=$(mktemp -d)
readonly library work
trap 'rm -rf "$work"' EXIT
# Nothing that this machine has set up may replace what is installed here.
unset OCTOPUS_LIBRARY CONDA_PREFIX DESTDIR LD_LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH PYTHONPATH
readonly home=$HOME
export GIT_CONFIG_GLOBAL=${GIT_CONFIG_GLOBAL:-$HOME/.gitconfig}
export HOME=$work/home XDG_CONFIG_HOME=$work/home/.config
mkdir -p "$HOME"

fail() {
    echo "ci/install-paths.sh: $*" >&2
    exit 1
}

# expect TEXT COMMAND...: runs a command, whose output must have this text.
expect() {
    local printed
    printed=$("${@:2}" 2>&1) || fail "failed: ${*:2}: $printed"
    [[ $printed == *"$1"* ]] || fail "${*:2} printed \"$printed\", expected \"$1\""
}

# rejected TEXT COMMAND...: runs a command, which must fail with this text.
rejected() {
    local printed
    ! printed=$("${@:2}" 2>&1) || fail "did not fail: ${*:2}: $printed"
    [[ $printed == *"$1"* ]] || fail "${*:2} printed \"$printed\", expected \"$1\""
}

begin() {
    started=$SECONDS
    path=$1
}

finish() {
    printf '%-70s %3d s\n' "$path" $((SECONDS - started))
}

# The programs of a user: one in C and one in C++ that link the library, and one that finds it when
# it runs.
write_project() {
    mkdir -p "$1"
    cat >"$1/linked.c" <<'END'
#include <octopus.h>
#include <stdio.h>

int main(void)
{
    const octopus_api *octopus = octopus_register(OCTOPUS_ABI_MAJOR);
    if (!octopus || octopus->abi_minor != OCTOPUS_ABI_MINOR)
        return fprintf(stderr, "the library has another version than octopus.h\n"), 1;
    printf("Octopus %.*s\n", (int)octopus->version.size, octopus->version.data);
    return 0;
}
END
    cat >"$1/linked.cpp" <<'END'
#include <octopus.hpp>

#include <iostream>

int main()
{
    const octopus::Library library(&octopus_register);
    const octopus::Driver driver(library, R"({"embedded": {}})");
    driver.create_topic("linked", {R"({"num_partitions": 2, "replication_factor": 1})"});
    std::cout << "linked from C++: Octopus " << library.version() << '\n';
    return 0;
}
END
    cat >"$1/found.cpp" <<'END'
#include <octopus.hpp>

#include <chrono>
#include <iostream>

int main()
try {
    const octopus::Driver driver(octopus::Library::find(), R"({"embedded": {}})");
    driver.create_topic("first", {R"({"num_partitions": 1, "replication_factor": 1})"});
    const auto stored = driver.open_topic("first").producer().push({"{}", "data"}).wait(std::chrono::seconds(30));
    std::cout << "stored at offset " << stored.value().id << '\n';
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
END
    cat >"$1/first.py" <<'END'
import diaspora_octopus as octopus

driver = octopus.Driver({"embedded": {}})
driver.create_topic("first", num_partitions=1, replication_factor=1)
topic = driver.open_topic("first")
with topic.producer() as producer:
    producer.push({"celsius": 21.5}, b"raw samples")
with topic.consumer("reader") as consumer:
    event = consumer.pull(timeout=30)
    print(event.metadata, len(event.data), octopus.Library().path)
END
    cat >"$1/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.16)
project(own C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(octopus 0.1 REQUIRED)
add_executable(linked linked.c)
target_link_libraries(linked PRIVATE octopus::octopus)
add_executable(linked_cpp linked.cpp)
target_link_libraries(linked_cpp PRIVATE octopus::octopus)
add_executable(found found.cpp)
target_link_libraries(found PRIVATE octopus::headers)
END
}

if [[ -n $project ]]; then
    write_project "$project"
    exit
fi

# The words that pkg-config prints for octopus, one a line. It escapes blanks in paths.
pkg_config() { # option
    pkg-config "$1" octopus | xargs printf '%s\n'
}

pkg_config_path() { # prefix, libdir
    export PKG_CONFIG_PATH=$1/$2/pkgconfig
    local compile link path_in_program
    mapfile -t compile < <(pkg_config --cflags)
    mapfile -t link < <(pkg_config --libs)
    path_in_program=-Wl,-rpath,$(pkg_config --variable=libdir)
    cc -std=c11 "${compile[@]}" -o "$work/linked" "$work/project/linked.c" "${link[@]}" "$path_in_program"
    expect 'Octopus 0.1.0' "$work/linked"
    c++ -std=c++17 "${compile[@]}" -o "$work/linked" "$work/project/linked.cpp" -pthread "${link[@]}" "$path_in_program"
    expect 'linked from C++: Octopus 0.1.0' "$work/linked"
    unset PKG_CONFIG_PATH
}

cmake_path() { # prefix, libdir
    rm -rf "$work/build"
    cmake -S "$work/project" -B "$work/build" -D CMAKE_PREFIX_PATH="$1" >"$work/cmake.log" 2>&1 &&
        cmake --build "$work/build" --parallel >>"$work/cmake.log" 2>&1 || fail "cmake failed: $(cat "$work/cmake.log")"
    expect 'Octopus 0.1.0' "$work/build/linked"
    expect 'linked from C++: Octopus 0.1.0' "$work/build/linked_cpp"
    rejected 'it was not found: OCTOPUS_LIBRARY: not set' "$work/build/found"
    expect 'stored at offset 0' env OCTOPUS_LIBRARY="$1/$2/liboctopus.so" "$work/build/found"
}

# find_version VERSION FOLDER: looks for this version of the CMake package in the folder.
find_version() {
    mkdir -p "$work/version"
    cat >"$work/version/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.16)
project(version NONE)
find_package(octopus ${wanted} REQUIRED)
message(STATUS "found ${octopus_VERSION}")
END
    rm -rf "$work/version/build"
    # CMake wraps long lines of its messages.
    cmake -S "$work/version" -B "$work/version/build" -D wanted="$1" -D octopus_DIR="$2" 2>&1 | tr -s '\n ' ' '
}

cmake_errors() { # prefix, libdir
    local folder=$1/$2/cmake/octopus version file
    for version in 0.1 0.1.0 '0.1.0;EXACT'; do
        expect 'found 0.1.0' find_version "$version" "$folder"
    done
    for version in 0.0.9 0.1.1 0.2 1.0; do
        rejected "compatible with requested version \"$version\"" find_version "$version" "$folder"
    done
    for file in "$1/$2/liboctopus.so" "$1/include/octopus.h"; do
        mv "$file" "$work/missing"
        rejected "$file is missing; install Octopus again" find_version 0.1 "$folder"
        mv "$work/missing" "$file"
    done
}

# The name that programs link and load, that of the major version, and the file.
check_links() { # folder of the library
    [[ $(readlink "$1/liboctopus.so") == liboctopus.so.0 && $(readlink "$1/liboctopus.so.0") == liboctopus.so.0.1.0 &&
        -x $1/liboctopus.so.0.1.0 && ! -L $1/liboctopus.so.0.1.0 ]] || fail "the links are wrong: $(ls -l "$1")"
}

begin 'ci/install.sh: rejects what it can'\''t do'
rejected 'there is no such file' ci/install.sh --prefix "$work/x" --library "$work/missing.so"
rejected 'expected a folder inside the prefix' ci/install.sh --prefix "$work/x" --libdir ../lib --library "$library"
rejected 'nothing is installed there' ci/install.sh --prefix "$work/x" --uninstall
rejected 'ci/install.sh --prefix DIR' ci/install.sh
finish

write_project "$work/project"
# Debian has a folder for each architecture.
multiarch=$(cc -print-multiarch)
for libdir in lib "lib/${multiarch:-$(uname -m)-linux-gnu}"; do
    # A path with blanks, then one without.
    if [[ $libdir == lib ]]; then
        prefix="$work/a prefix/octopus" moved="$work/moved prefix"
    else
        prefix=$work/prefix/octopus moved=$work/moved
    fi
    begin "$libdir: install in .../${prefix#"$work/"}"
    expect 'installed Octopus 0.1.0' ci/install.sh --prefix "$prefix" --libdir "$libdir" --library "$library"
    check_links "$prefix/$libdir"
    cp "$repository/LICENSE" "$prefix/of-another-package"
    # Over an existing installation, as an update does. The other version had another file.
    touch "$prefix/include/octopus/old.hpp"
    echo include/octopus/old.hpp >>"$prefix/share/octopus/installed-files.txt"
    expect 'installed Octopus 0.1.0' ci/install.sh --prefix "$prefix" --libdir "$libdir" --library "$library"
    [[ ! -e $prefix/include/octopus/old.hpp ]] || fail 'a file of the other version is left'
    check_links "$prefix/$libdir"
    finish

    begin "$libdir: CMake"
    cmake_path "$prefix" "$libdir"
    finish
    begin "$libdir: CMake rejects other versions and a missing file"
    cmake_errors "$prefix" "$libdir"
    finish

    # pkg-config and CMake must not depend on where it was installed.
    mv "$prefix" "$moved"
    begin "$libdir: pkg-config, after the prefix was moved"
    pkg_config_path "$moved" "$libdir"
    finish
    begin "$libdir: CMake, after the prefix was moved"
    cmake_path "$moved" "$libdir"
    finish

    begin "$libdir: uninstall"
    expect 'removed Octopus' ci/install.sh --prefix "$moved" --uninstall
    [[ $(find "$moved" -type f) == "$moved/of-another-package" ]] || fail "left in the prefix: $(find "$moved")"
    [[ $(find "$moved" -mindepth 1 -type d) == '' ]] || fail "folders left in the prefix: $(find "$moved")"
    rm -r "$moved"
    finish
done

begin 'a manifest: --register, find, --uninstall'
if [[ $(id -u) == 0 ]]; then
    # Root's manifest is in /etc, which belongs to this machine.
    export DESTDIR=$work/destination
    expect 'octopus.driver' ci/install.sh --prefix /opt/octopus --library "$library" --register
    grep -qFx 'path=/opt/octopus/lib/liboctopus.so' "$DESTDIR/etc/octopus/octopus.driver" || fail 'the manifest is wrong'
    mkdir -p "$XDG_CONFIG_HOME/octopus"
    sed "s|=/opt|=$DESTDIR/opt|" "$DESTDIR/etc/octopus/octopus.driver" >"$XDG_CONFIG_HOME/octopus/octopus.driver"
    expect 'stored at offset 0' "$work/build/found"
    expect 'octopus.driver' ci/install.sh --prefix /opt/octopus --uninstall
    unset DESTDIR
    [[ $(find "$work/destination" -type f) == '' ]] || fail "left: $(find "$work/destination")"
    rm -r "$XDG_CONFIG_HOME/octopus"
else
    expect 'octopus.driver' ci/install.sh --prefix "$work/user" --library "$library" --register
    expect 'stored at offset 0' "$work/build/found"
    expect 'octopus.driver' ci/install.sh --prefix "$work/user" --uninstall
fi
rejected 'it was not found' "$work/build/found"
finish

begin 'Python: a wheel'
ci/wheel.sh --library "$library" --out "$work/again" >"$work/again.log" 2>&1 &
wheel=$(ci/wheel.sh --library "$library" --out "$work/wheels" 2>"$work/wheel.log") || fail "ci/wheel.sh failed: $(cat "$work/wheel.log")"
wait $! || fail "ci/wheel.sh failed: $(cat "$work/again.log")"
cmp "$wheel" "$work/again/$(basename "$wheel")" || fail 'the same library gave another wheel'
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-index "$wheel"
expect "{'celsius': 21.5} 11 $work/venv/lib" "$work/venv/bin/python" "$work/project/first.py"
expect 'Successfully uninstalled' "$work/venv/bin/pip" uninstall --yes diaspora-octopus
[[ $(find "$work/venv" -name 'liboctopus*') == '' ]] || fail 'the library is still there'
finish

begin 'Python: the sources, with an installed library'
expect 'installed Octopus' ci/install.sh --prefix "$work/for python" --library "$library"
# From a copy, since pip leaves its files in the folder of the sources.
git ls-files -z plugin-tests/python | xargs -0 cp --parents -t "$work"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$work/plugin-tests/python"
rejected 'it was not found' "$work/venv/bin/python" "$work/project/first.py"
export CONDA_PREFIX="$work/for python"
expect "{'celsius': 21.5} 11 $work/for python/lib" "$work/venv/bin/python" "$work/project/first.py"
finish

begin 'signed checksums of packages'
ci/package.sh --self-test >"$work/signed.log" || fail 'ci/package.sh --self-test failed'
path+=$(sed -n 's/.*\(skipped.*\)/: \1/p' "$work/signed.log")
finish

if $full; then
    # From here on as this machine is set up.
    exec env -u CONDA_PREFIX -u XDG_CONFIG_HOME HOME="$home" bash -euo pipefail -c 'rm -rf "$0"; ci/package.sh; ci/clean-roots.sh packages; ci/clean-roots.sh sources' "$work"
fi
