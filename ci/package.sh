#!/usr/bin/env bash
# Makes the packages of a release for x86-64 Linux: archives with and without the feature `aws`, a
# .deb, a conda package, a wheel, debug information, an SBOM and checksums.
#
#   ci/package.sh [--out DIR]    builds the libraries, and writes the packages to target/packages or DIR
#     --library FILE             packs this liboctopus.so instead, which is in no archive without `aws`
#     --sign KEY                 signs the checksums with this key of gpg
#   ci/package.sh --self-test    signs checksums with a key of its own, and verifies that changes are noticed
#
# The libraries need glibc 2.28 and no other library. Clones of one commit give the same bytes,
# wherever they are: it builds in a folder whose name is part of the result, /tmp/octopus-packages,
# with a zig of its own (ci/package/requirements.txt) as the C compiler and linker.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly oldest_glibc=2.28
readonly build=/tmp/octopus-packages
readonly name=diaspora-octopus
out='' library='' key='' self_test=false

fail() {
    echo "ci/package.sh: $*" >&2
    exit 1
}

while [[ $# -gt 0 ]]; do
    case $1 in
        --out | --library | --sign)
            [[ $# -ge 2 ]] || fail "$1 needs a value"
            case $1 in
                --out) out=$(realpath -m "$2") ;;
                --library) library=$(realpath -m "$2") ;;
                --sign) key=$2 ;;
            esac
            shift
            ;;
        --self-test) self_test=true ;;
        *)
            sed -n '2,13s/^# \{0,1\}//p' "$0"
            exit 2
            ;;
    esac
    shift
done
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- checksums ------------------------------------------------------------------------------------

write_checksums() { # folder
    (cd "$1" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
}

sign_checksums() { # folder
    gpg --batch --yes --quiet --local-user "$key" --armor --detach-sign "$1/SHA256SUMS"
}

# As docs/packages.md describes it.
is_genuine() { # folder
    (cd "$1" && gpg --batch --verify SHA256SUMS.asc SHA256SUMS && sha256sum --quiet --check SHA256SUMS) >"$work/verify.log" 2>&1
}

try_signing() {
    command -v gpg >/dev/null || { echo 'ci/package.sh: skipped: signed checksums, since gpg is missing' && return; }
    export GNUPGHOME=$work/gnupg
    trap 'gpgconf --kill all; rm -rf "$work"' EXIT
    mkdir -m 700 "$GNUPGHOME"
    gpg --batch --quiet --passphrase '' --quick-generate-key test@octopus.invalid ed25519 sign never 2>"$work/key.log" ||
        fail "gpg can't make a key: $(cat "$work/key.log")"
    key=test@octopus.invalid
    local folder=$work/signed
    mkdir "$folder"
    echo one >"$folder/one.tar.gz"
    echo two >"$folder/two.deb"
    write_checksums "$folder"
    sign_checksums "$folder"
    is_genuine "$folder" || fail "signed files are rejected: $(cat "$work/verify.log")"
    echo changed >"$folder/two.deb"
    ! is_genuine "$folder" || fail 'a changed file is not noticed'
    (cd "$folder" && sha256sum one.tar.gz two.deb >SHA256SUMS)
    ! is_genuine "$folder" || fail 'changed checksums are not noticed'
    echo 'signed checksums are verified; a changed file and changed checksums are noticed'
}

if $self_test; then
    try_signing
    exit
fi

[[ $(uname -sm) == 'Linux x86_64' ]] || fail 'packages are made on x86-64 Linux'
[[ -z $library || -f $library ]] || fail "--library $library: there is no such file"
[[ -z $key ]] || gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || fail "--sign $key: gpg has no such key"
out=${out:-$(ci/target.sh)/packages}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
# Of the parts of Rust's standard library.
notices=$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
[[ -f $notices ]] || fail "$notices is missing: install Rust by rustup"
readonly out version notices
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

# --- the libraries --------------------------------------------------------------------------------

prepare_build() {
    mkdir "$build" 2>/dev/null || fail "$build exists: wait for the other build, or remove it if none is running"
    trap 'rm -rf "$work" "$build"' EXIT
    git archive HEAD | tar -x -C "$build"
    [[ -z $(git status --porcelain) ]] || echo 'ci/package.sh: uncommitted changes are not in the packages' >&2
    # In the folder of the build, since paths of the compiler are part of its output.
    python3 -m venv "$build/tools"
    "$build/tools/bin/pip" install --quiet --disable-pip-version-check --requirement ci/package/requirements.txt
}

build_library() { # features, file
    local mapped=${CARGO_HOME:-$HOME/.cargo}
    (
        cd "$build"
        unset CARGO_BUILD_TARGET_DIR
        export PATH=$build/tools/bin:$PATH CARGO_TARGET_DIR=$build/target CARGO_INCREMENTAL=0
        export CARGO_ZIGBUILD_CACHE_DIR=$build/zig ZIG_GLOBAL_CACHE_DIR=$build/zig-cache ZIG_LOCAL_CACHE_DIR=$build/zig-cache
        export RUSTFLAGS="--remap-path-prefix=$mapped=/cargo"
        CFLAGS="$(sed -n 's/^CFLAGS = "\(.*\)"$/\1/p' .cargo/config.toml) -ffile-prefix-map=$mapped=/cargo"
        export CFLAGS CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
        # Link-time optimization, which needs that only the cdylib is built.
        export CARGO_PROFILE_RELEASE_LTO=fat
        cargo-zigbuild rustc --quiet --release --locked -p octopus --lib --crate-type cdylib --no-default-features \
            --features "$1" --target "x86_64-unknown-linux-gnu.$oldest_glibc" >&2
    )
    cp "$build/target/x86_64-unknown-linux-gnu/release/liboctopus.so" "$2"
}

default_features() {
    sed -n 's/^default = \[\(.*\)\]$/\1/p' Cargo.toml | tr -d '" '
}

# The licenses of what zig adds are in ci/licenses. Its compiler-rt is not used: Rust has that, too.
check_runtime() { # file
    local folder added
    folder=$(echo "$build"/tools/lib/python3*/site-packages/ziglang/lib)
    added=$(strings -a "$1" | sed -n 's#.*ziglang/lib/\(.*\)/[^/]*\.\(c\|cpp\|S\|zig\)$#\1#p' | sort -u | paste -sd' ')
    [[ $added == 'libc/glibc/io libc/glibc/stdlib libunwind/src' ]] ||
        fail "zig has added code from \"$added\": correct ci/vendored/libraries.toml and this check"
    cmp -s "$folder/libunwind/LICENSE.TXT" ci/licenses/llvm-libunwind.txt ||
        fail "zig's unwinder has another license: copy $folder/libunwind/LICENSE.TXT to ci/licenses/llvm-libunwind.txt"
}

# What the file needs of the system must not grow unnoticed.
check_library() { # file, limit of its size in MB
    local needed above
    above=$(objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | sed -n "/^GLIBC_$oldest_glibc\$/,\$p" | grep -vx "GLIBC_$oldest_glibc" || true)
    [[ -z $above ]] || fail "the library needs $above, above glibc $oldest_glibc"
    needed=$(objdump -p "$1" | sed -n 's/^ *NEEDED *//p' | grep -vxE '(libc|libm|libdl|libpthread|librt|libutil)\.so\.[0-9]+|ld-linux-x86-64\.so\.2' || true)
    [[ -z $needed ]] || fail "the library needs $needed, which is not part of glibc"
    check_runtime "$1"
    ci/symbols.sh "$1"
    ci/size.sh "$1" "$2"
}

# Writes liboctopus.so without debug information, and that into a file of its own.
split_debug_information() { # file, folder
    mkdir -p "$2"
    local debug=liboctopus.so.$version.debug
    objcopy --only-keep-debug --compress-debug-sections "$1" "$2/$debug"
    strip --strip-unneeded -o "$2/liboctopus.so" "$1"
    (cd "$2" && objcopy --add-gnu-debuglink="$debug" liboctopus.so)
}

# --- the packages ---------------------------------------------------------------------------------

# Packs a folder so that the same files give the same bytes.
archive() { # file.tar.gz, folder, path in it
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu -C "$2" -c "$3" | gzip -n -9 >"$1"
}

# Installs the files as ci/install.sh does. A package manager knows itself what to remove.
install_files() { # library, prefix, folder of the library, destination
    DESTDIR=$4 ci/install.sh --prefix "$2" --libdir "$3" --library "$1" >/dev/null
    rm "$4$2/share/octopus/installed-files.txt"
    rmdir "$4$2/share/octopus"
    cp "$work/sbom.cdx.json" "$notices" "$4$2/share/doc/octopus/"
}

make_archive() { # library, name
    local folder=$2-$version
    install_files "$1" "/$folder" lib "$work/archives"
    archive "$out/$folder-linux-x86_64.tar.gz" "$work/archives" "$folder"
}

make_deb() { # library
    local root=$work/deb libdir=lib/x86_64-linux-gnu
    install_files "$1" /usr "$libdir" "$root"
    mv "$root/usr/share/doc/octopus" "$root/usr/share/doc/$name"
    cp LICENSE "$root/usr/share/doc/$name/copyright"
    mkdir "$root/DEBIAN"
    echo 'activate-noawait ldconfig' >"$root/DEBIAN/triggers"
    sed "s/@VERSION@/$version/; s/@GLIBC@/$oldest_glibc/; s/@SIZE@/$(du -sk --apparent-size "$root/usr" | cut -f1)/" \
        ci/package/control.in >"$root/DEBIAN/control"
    dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$root" "$out/${name}_${version}_amd64.deb" >/dev/null
}

make_conda() { # library
    install_files "$1" /prefix lib "$work/conda"
    python3 ci/package/conda.py "$work/conda/prefix" "$out/$name-$version-0.tar.bz2" "$version" "$oldest_glibc"
}

make_packages() {
    rm -rf "$out"
    mkdir -p "$out"
    python3 ci/package/sbom.py "$(default_features)" "$work/all/built.so" >"$work/sbom.cdx.json"
    cp "$work/sbom.cdx.json" "$out/$name-$version.cdx.json"
    split_debug_information "$work/all/built.so" "$work/all"
    make_archive "$work/all/liboctopus.so" "$name"
    archive "$out/$name-debug-$version-linux-x86_64.tar.gz" "$work/all" "liboctopus.so.$version.debug"
    make_deb "$work/all/liboctopus.so"
    make_conda "$work/all/liboctopus.so"
    ci/wheel.sh --library "$work/all/liboctopus.so" --out "$out" >/dev/null
    if [[ -f $work/no-aws/built.so ]]; then
        python3 ci/package/sbom.py "$(default_features | sed 's/\baws,//')" "$work/no-aws/built.so" >"$work/sbom.cdx.json"
        split_debug_information "$work/no-aws/built.so" "$work/no-aws"
        make_archive "$work/no-aws/liboctopus.so" "$name-no-aws"
    fi
    write_checksums "$out"
    [[ -z $key ]] || sign_checksums "$out"
}

mkdir "$work/all" "$work/no-aws"
if [[ -n $library ]]; then
    cp "$library" "$work/all/built.so"
else
    prepare_build
    build_library "$(default_features)" "$work/all/built.so"
    build_library "$(default_features | sed 's/\baws,//')" "$work/no-aws/built.so"
    check_library "$work/all/built.so" 15
    check_library "$work/no-aws/built.so" 11
fi
make_packages
(cd "$out" && du -b --apparent-size -- * | sort -k2)
