"""Reads ci/vendored/libraries.toml, the list of code in liboctopus.so that is no crate.

Usage: python3 ci/vendored/libraries.py     prints name and version of the libraries with a `cpe`

A version that is not found is empty, which ci/vendored.sh reports.
"""

import json
import re
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path


def output_of(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@dataclass(frozen=True)
class Library:
    """An entry of the list, which describes the fields."""

    name: str
    license: str
    text: str
    title: str = ""
    crate: str = ""
    linked_by: str = ""
    within: str = ""
    compiler: str = ""
    crate_version: str = ""
    file: str = ""
    macros: list[str] = field(default_factory=list)
    pattern: str = ""
    cpe: str = ""
    patches: str = ""

    def has_version(self) -> bool:
        return bool(self.crate_version or self.file or self.compiler)

    def linked_crate(self) -> str:
        return self.linked_by or self.crate


def read() -> list[Library]:
    libraries = [Library(**entry) for entry in tomllib.loads(Path("ci/vendored/libraries.toml").read_text())["library"]]
    for library in libraries:
        if sum(map(bool, (library.crate, library.within, library.compiler))) != 1:
            raise SystemExit(f"ci/vendored/libraries.toml: {library.name} needs one of crate, within and compiler")
    return libraries


def compiler_version(compiler: str) -> str:
    if compiler == "rustc":
        return output_of("rustc", "--version").split()[1]
    return found_by(r"^ziglang==(.+)$", Path("ci/package/requirements.txt").read_text())


def found_by(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def version_in(text: str, library: Library) -> str:
    if library.pattern:
        return found_by(library.pattern, text)
    parts = [found_by(rf'^#define {macro} +"?([0-9][0-9.]*)', text) for macro in library.macros]
    return ".".join(parts) if all(parts) else ""


def versions(libraries: list[Library]) -> dict[str, str]:
    """The versions of the libraries that have one, by their names."""
    packages = json.loads(output_of("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    crates: dict[str, list[tuple[str, Path]]] = {}
    for package in packages:
        crates.setdefault(package["name"], []).append((package["version"], Path(package["manifest_path"]).parent))
    found = {}
    with tempfile.TemporaryDirectory() as work:
        # librdkafka as it is compiled: the patches change the versions of its parts.
        patched = Path(work, "librdkafka")
        if any(library.within and library.file for library in libraries):
            subprocess.run(["ci/librdkafka.sh", "tree", patched], stdout=subprocess.DEVNULL, check=True)
        for library in libraries:
            if not library.has_version():
                continue
            if library.compiler:
                found[library.name] = compiler_version(library.compiler)
            elif library.within:
                found[library.name] = version_in((patched / library.file).read_text(), library)
            elif len(crates.get(library.crate, [])) == 1:
                version, folder = crates[library.crate][0]
                if library.file:
                    found[library.name] = version_in((folder / library.file).read_text(), library)
                else:
                    found[library.name] = found_by(library.crate_version, version)
            else:
                # None or several: it is not known which one is linked.
                found[library.name] = ""
    return found


def main() -> None:
    checked = [library for library in read() if library.cpe]
    for name, version in versions(checked).items():
        print(name, version)


if __name__ == "__main__":
    main()
