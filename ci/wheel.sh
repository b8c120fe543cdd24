#!/usr/bin/env bash
# Makes a wheel of the package diaspora_octopus that contains the library, and prints its path.
#
#   ci/wheel.sh [--library FILE] [--out DIR]
#
# The library is that of the release build, which is made if it is missing, or FILE; the wheel is
# written to target/wheels or DIR. Its platform tag names the glibc that the library needs. The same
# library gives the same bytes.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)

library='' out=''
while [[ $# -gt 0 ]]; do
    case $1 in
        --library | --out)
            [[ $# -ge 2 ]] || { echo "ci/wheel.sh: $1 needs a value" >&2 && exit 2; }
            declare "${1#--}=$(realpath -m "$2")"
            shift
            ;;
        *)
            sed -n '2,8s/^# \{0,1\}//p' "$0"
            exit 2
            ;;
    esac
    shift
done
cd "$repository"
out=${out:-$(ci/target.sh)/wheels}
if [[ -z $library ]]; then
    cargo build --release --locked -p octopus >&2
    library=$(ci/target.sh)/release/liboctopus.so
fi
[[ -f $library ]] || { echo "ci/wheel.sh: $library does not exist" >&2 && exit 1; }

glibc=$(objdump -T "$library" | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -1)
tag=manylinux_2_${glibc#GLIBC_2.}_$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Only what git knows: the folder may have files of test runs.
git ls-files -z plugin-tests/python/pyproject.toml plugin-tests/python/diaspora_octopus |
    xargs -0 cp --parents -t "$work"
package=$work/plugin-tests/python
strip -o "$package/diaspora_octopus/liboctopus.so" "$library"
cp LICENSE docs/NOTICE.md docs/third-party-licenses.md "$package"
# The wheel has the library and the licenses of what is in it; a source tree has neither.
sed -i -e 's/^diaspora_octopus = \["py.typed"\]$/diaspora_octopus = ["py.typed", "liboctopus.so"]/' \
    -e 's/^license = "Apache-2.0"$/&\nlicense-files = ["LICENSE", "NOTICE.md", "third-party-licenses.md"]/' "$package/pyproject.toml"

cat >"$package/setup.py" <<'END'
from setuptools import Distribution, setup


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


setup(distclass=WithLibrary)
END

# The files of the wheel get this time, and its form is that of these versions.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH PIP_CONSTRAINT=$work/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_BUILD_CONSTRAINT=$PIP_CONSTRAINT
printf '%s\n' setuptools==84.2.1 wheel==0.48.0 >"$PIP_CONSTRAINT"
python3 -m venv "$work/venv" >&2
"$work/venv/bin/pip" install --quiet wheel >&2
"$work/venv/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/wheels" "$package" >&2
"$work/venv/bin/wheel" tags --remove --python-tag py3 --abi-tag none --platform-tag "$tag" "$work"/wheels/*.whl >&2
mkdir -p "$out"
cp "$work"/wheels/*.whl "$out"
echo "$out/$(basename "$work"/wheels/*.whl)"
