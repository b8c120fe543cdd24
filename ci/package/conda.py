"""Packs a prefix as a conda package. The same files give the same bytes.

Usage: python3 ci/package/conda.py PREFIX FILE.tar.bz2 VERSION GLIBC     with SOURCE_DATE_EPOCH

The format: docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html
"""

import bz2
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

NAME = "diaspora-octopus"


def info_files(prefix: Path, version: str, glibc: str, time: int) -> dict[str, bytes]:
    """The files in `info`, by name."""
    index = {
        "name": NAME,
        "version": version,
        "build": "0",
        "build_number": 0,
        "subdir": "linux-64",
        "platform": "linux",
        "arch": "x86_64",
        "depends": [f"__glibc >={glibc}"],
        "license": "Apache-2.0",
        "timestamp": time * 1000,
    }
    about = {
        "summary": "A Kafka backend for the Diaspora Streaming API, with a C ABI",
        "license": "Apache-2.0",
    }
    paths = [path_entry(prefix, file) for file in files_of(prefix)]
    return {
        "index.json": as_json(index),
        "about.json": as_json(about),
        "paths.json": as_json({"paths": paths, "paths_version": 1}),
        "files": "".join(f"{entry['_path']}\n" for entry in paths).encode(),
        "licenses/LICENSE": Path("LICENSE").read_bytes(),
    }


def path_entry(prefix: Path, file: Path) -> dict[str, object]:
    """conda expects of a link the checksum and the size of the file that it leads to."""
    content = file.read_bytes()
    return {
        "_path": str(file.relative_to(prefix)),
        "path_type": "softlink" if file.is_symlink() else "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }


def files_of(prefix: Path) -> list[Path]:
    return sorted(file for file in prefix.rglob("*") if file.is_symlink() or file.is_file())


def as_json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def member(name: str, time: int, size: int = 0, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime, info.size, info.mode = time, size, mode
    return info


def main(prefix: Path, package: Path, version: str, glibc: str) -> None:
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        # First, so that tools read them without unpacking the rest.
        for name, content in info_files(prefix, version, glibc, time).items():
            tar.addfile(member(f"info/{name}", time, len(content)), io.BytesIO(content))
        for file in files_of(prefix):
            info = member(str(file.relative_to(prefix)), time)
            if file.is_symlink():
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(file)
                tar.addfile(info)
            else:
                content = file.read_bytes()
                info.size, info.mode = len(content), 0o755 if os.access(file, os.X_OK) else 0o644
                tar.addfile(info, io.BytesIO(content))
    package.write_bytes(bz2.compress(packed.getvalue()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
