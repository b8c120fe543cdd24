"""Writes the SBOM of liboctopus.so to the standard output: its crates and its C libraries, in the
form of CycloneDX 1.6.

Usage: python3 ci/package/sbom.py FEATURES     with SOURCE_DATE_EPOCH

The crates are those that cargo links; ci/vendored.sh has the list of the C libraries.
"""

import json
import os
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

TARGET = "x86_64-unknown-linux-gnu"
# The C libraries of a feature. Those of librdkafka and zlib are always there.
OF_FEATURE = {"openssl": {"tls"}, "curl": {"aws", "oidc", "topic-service"}, "zstd": {"zstd"}}


def output_of(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


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


def c_components(features: str) -> list[dict[str, object]]:
    components: list[dict[str, object]] = []
    for line in output_of("ci/vendored.sh", "--list").splitlines():
        name, version = line.split()
        if name in OF_FEATURE and OF_FEATURE[name].isdisjoint(features.split(",")):
            continue
        purl = f"pkg:generic/{name}@{version}"
        cpe = f"cpe:2.3:a:*:{name}:{version}:*:*:*:*:*:*:*"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "cpe": cpe})
    return components


def main(features: str) -> None:
    version = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["package"]["version"]
    components = crate_components(features) + c_components(features)
    octopus = f"pkg:generic/diaspora-octopus@{version}"
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
        "dependencies": [{"ref": octopus, "dependsOn": [component["bom-ref"] for component in components]}],
    }
    print(json.dumps(sbom, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
