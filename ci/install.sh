#!/usr/bin/env bash
# Installs Octopus for programs outside of this repository: the library, the headers, octopus.pc for
# pkg-config, a CMake package, and the licenses.
#
#   ci/install.sh --prefix DIR     builds the library if it is not built, and installs into DIR
#     --libdir DIR                 the folder of the library, relative to the prefix: lib (default), lib64, …
#     --library FILE               installs this liboctopus.so instead of building one
#     --register                   writes a manifest, by which programs find the library: for root in
#                                  /etc/octopus, for others in ~/.config/octopus
#   ci/install.sh --prefix DIR --uninstall    removes what was installed, and the manifest that names it
#
# The variable DESTDIR is put before the prefix, for those who make packages. The prefix can be
# moved later, except that a manifest names its old place.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)

prefix='' libdir=lib library='' register=false uninstall=false
usage() {
    sed -n '2,14s/^# \{0,1\}//p' "$0"
}
wrong_usage() {
    usage >&2
    exit 2
}
while [[ $# -gt 0 ]]; do
    case $1 in
        --prefix | --libdir | --library)
            [[ $# -ge 2 && -n $2 ]] || wrong_usage
            declare "${1#--}=$2"
            shift
            ;;
        --register) register=true ;;
        --uninstall) uninstall=true ;;
        -h | --help) usage && exit ;;
        *) wrong_usage ;;
    esac
    shift
done
[[ -n $prefix ]] || wrong_usage
fail() {
    echo "ci/install.sh: $*" >&2
    exit 1
}
[[ $libdir != /* && /$libdir/ != */../* ]] || fail "--libdir $libdir: expected a folder inside the prefix, such as lib64"
prefix=$(realpath -ms "$prefix")
[[ -z ${DESTDIR:-} ]] || DESTDIR=$(realpath -ms "$DESTDIR")
# Other users read what root installs.
umask 022
readonly root=${DESTDIR:-}$prefix
readonly list=share/octopus/installed-files.txt

manifest_folder() {
    if [[ $(id -u) == 0 ]]; then
        echo "${DESTDIR:-}/etc/octopus"
    else
        echo "${DESTDIR:-}${XDG_CONFIG_HOME:-$HOME/.config}/octopus"
    fi
}

# Removes a file and the folders that are empty then.
remove_file() {
    local folder=$1
    rm -f "$root/$1"
    while [[ $folder == */* ]]; do
        folder=${folder%/*}
        rmdir "$root/$folder" 2>/dev/null || break
    done
}

remove_installed() {
    local files file manifest
    [[ -f $root/$list ]] || fail "$root/$list does not exist: nothing is installed there"
    mapfile -t files <"$root/$list"
    for file in "${files[@]}"; do
        remove_file "$file"
    done
    rmdir "$root" 2>/dev/null || true
    manifest=$(manifest_folder)/octopus.driver
    if [[ -f $manifest ]] && grep -qFx "path=$prefix/$libdir/liboctopus.so" "$manifest"; then
        rm "$manifest"
        rmdir "$(dirname "$manifest")" 2>/dev/null || true
        echo "removed $manifest"
    fi
    echo "removed Octopus from $root"
}

if $uninstall; then
    # The files of an installation tell where its library is.
    libdir=$(sed -n 's|/liboctopus\.so$||p' "$root/$list" 2>/dev/null || echo "$libdir")
    remove_installed
    exit
fi

[[ -z $library || $library == /* ]] || library=$PWD/$library
cd "$repository"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
abi=$(sed -n 's/^#define OCTOPUS_ABI_M\(AJ\|IN\)OR \([0-9]*\)$/\2/p' include/octopus.h | paste -sd.)
if [[ -z $library ]]; then
    cargo build --release --locked -p octopus
    library=$(ci/target.sh)/release/liboctopus.so
fi
[[ -f $library ]] || fail "--library $library: there is no such file"

# What an earlier installation has that this one has not.
stale=()
[[ ! -f $root/$list ]] || mapfile -t stale <"$root/$list"
installed=()
# add MODE SOURCE PATH: copies a file to a path in the prefix. The new file replaces an old one that
# programs may have loaded, and does not change it.
add() {
    local target=$root/$3
    mkdir -p "$(dirname "$target")"
    install -m "$1" "$2" "$target.new"
    mv -f "$target.new" "$target"
    installed+=("$3")
}

# add_from_template SOURCE PATH
add_from_template() {
    local filled up
    filled=$(mktemp)
    up=$(dirname "$2" | sed 's|[^/][^/]*|..|g')
    sed -e "s|@UP@|$up|; s|@UP_CMAKE@|$up|; s|@LIBDIR@|$libdir|; s|@VERSION@|$version|" \
        -e "s|@MAJOR_MINOR@|${version%.*}|; s|@MAJOR@|${version%%.*}|" "$1" >"$filled"
    add 644 "$filled" "$2"
    rm "$filled"
}

# link TARGET PATH
link() {
    ln -sfn "$1" "$root/$2"
    installed+=("$2")
}

add 755 "$library" "$libdir/liboctopus.so.$version"
link "liboctopus.so.$version" "$libdir/liboctopus.so.${version%%.*}"
# Part of the runtime, as hosts pass this name to dlopen; it is also the soname.
link "liboctopus.so.${version%%.*}" "$libdir/liboctopus.so"
for header in include/*.h include/*.hpp include/octopus/*.hpp; do
    add 644 "$header" "$header"
done
add_from_template ci/install/octopus.pc.in "$libdir/pkgconfig/octopus.pc"
add_from_template ci/install/octopusConfig.cmake.in "$libdir/cmake/octopus/octopusConfig.cmake"
add_from_template ci/install/octopusConfigVersion.cmake.in "$libdir/cmake/octopus/octopusConfigVersion.cmake"
for page in LICENSE docs/NOTICE.md docs/third-party-licenses.md; do
    add 644 "$page" "share/doc/octopus/$(basename "$page")"
done
for file in "${stale[@]}"; do
    [[ " ${installed[*]} $list " == *" $file "* ]] || remove_file "$file"
done
mkdir -p "$root/share/octopus"
printf '%s\n' "${installed[@]}" "$list" >"$root/$list"
echo "installed Octopus $version in $root"

if $register; then
    folder=$(manifest_folder)
    mkdir -p "$folder"
    printf '# Octopus\npath=%s\nabi=%s\nversion=%s\n' "$prefix/$libdir/liboctopus.so" "$abi" "$version" >"$folder/octopus.driver"
    echo "programs find it by $folder/octopus.driver"
fi
