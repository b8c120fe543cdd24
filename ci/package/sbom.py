"""Writes the SBOM of a library to the standard output, in the form of CycloneDX 1.6: its crates, its
C libraries and their parts, and what the compilers add.

Usage: python3 ci/package/sbom.py FEATURES LIBRARY     with SOURCE_DATE_EPOCH

The crates are those that cargo links for these features; ci/vendored/libraries.toml lists the rest.
"""

import json
import os
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, "ci/vendored")
import libraries
from libraries import Library, output_of

TARGET = "x86_64-unknown-linux-gnu"


def linked_crates(features: str) -> list[tuple[str, str]]:
    """The names and versions of the crates that are linked into the library."""
    tree = output_of(
        *("cargo", "tree", "--locked", "-p", "octopus", "--no-default-features", "--features", features),
        *("-e", "normal,no-proc-macro", "--target", TARGET, "--prefix", "none"),
    )
    found = {(line.split()[0], line.split()[1].removeprefix("v")) for line in tree.splitlines() if line}
    return sorted(crate for crate in found if not crate[0].startswith("octopus"))


def crate_components(features: str) -> list[dict[str, object]]:
    locked = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    checksums = {(crate["name"], crate["version"]): crate.get("checksum") for crate in locked}
    metadata = json.loads(output_of("cargo", "metadata", "--locked", "--format-version", "1"))
    licenses = {(crate["name"], crate["version"]): crate["license"] for crate in metadata["packages"]}
    components = []
    for name, version in linked_crates(features):
        component: dict[str, object] = {
            "type": "library",
            "bom-ref": f"pkg:cargo/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:cargo/{name}@{version}",
            "licenses": [{"expression": (licenses[name, version] or "Apache-2.0").replace("/", " OR ")}],
        }
        if checksum := checksums[name, version]:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    return components


def is_in_build(library: Library, crates: set[str], is_by_zig: bool, listed: dict[str, Library]) -> bool:
    if library.within:
        return is_in_build(listed[library.within], crates, is_by_zig, listed)
    if library.compiler:
        return library.compiler != "zig" or is_by_zig
    return library.linked_crate() in crates


def license_of(library: Library) -> dict[str, object]:
    # The public domain is no license, so SPDX has no identifier for it.
    if library.license == "public domain":
        return {"license": {"name": library.license}}
    return {"expression": library.license}


def links_no_unwinder(file: str) -> bool:
    """Whether zig has linked the library: other linkers refer to the unwinder of the system."""
    return "libgcc_s.so" not in output_of("objdump", "-p", file)


def library_components(features: str, file: str) -> tuple[list[dict[str, object]], dict[str, list[str]]]:
    """The components of the list, and the references of the parts of each library."""
    listed = {library.name: library for library in libraries.read()}
    crates = {name for name, _ in linked_crates(features)}
    is_by_zig = links_no_unwinder(file)
    built = [library for library in listed.values() if is_in_build(library, crates, is_by_zig, listed)]
    versions = libraries.versions(built)
    components: list[dict[str, object]] = []
    references = {}
    parts: dict[str, list[str]] = {}
    for library in built:
        version = versions.get(library.name)
        if version == "":
            sys.exit(f"ci/package/sbom.py: the version of {library.name} is not found: correct ci/vendored/libraries.toml")
        # The version of zig is not one of the library that comes with it.
        of_library = None if library.compiler == "zig" else version
        purl = f"pkg:generic/{library.name}" + (f"@{of_library}" if of_library else "")
        references[library.name] = purl
        component: dict[str, object] = {"type": "library", "bom-ref": purl, "name": library.name}
        if of_library:
            component["version"] = of_library
        component |= {"purl": purl, "licenses": [license_of(library)]}
        if library.cpe:
            component["cpe"] = f"cpe:2.3:a:{library.cpe}:{of_library}:*:*:*:*:*:*:*"
        if library.title:
            component["description"] = library.title
        if library.compiler == "zig":
            component["properties"] = [{"name": "octopus:source", "value": f"zig {version}"}]
        if library.patches and "patched" in features.split(","):
            component["pedigree"] = {"notes": f"changed by the patches in {library.patches}"}
        components.append(component)
        if library.within:
            parts.setdefault(references[library.within], []).append(purl)
    return components, parts


def main(features: str, file: str) -> None:
    version = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["package"]["version"]
    of_list, parts = library_components(features, file)
    components = crate_components(features) + of_list
    octopus = f"pkg:generic/diaspora-octopus@{version}"
    within = {reference for references in parts.values() for reference in references}
    direct = [component["bom-ref"] for component in components if component["bom-ref"] not in within]
    dependencies = [{"ref": octopus, "dependsOn": direct}]
    dependencies += [{"ref": reference, "dependsOn": references} for reference, references in parts.items()]
    contents = json.dumps([octopus, features, components], sort_keys=True)
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, contents)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc).isoformat(),
            "component": {
                "type": "library",
                "bom-ref": octopus,
                "name": "diaspora-octopus",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "cargo:features", "value": features}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }
    print(json.dumps(sbom, indent=2))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
