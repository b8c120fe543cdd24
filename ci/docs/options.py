"""Has the library create a driver, topic, producer or consumer with the options on a page.

Readers put in their own hosts, files and secrets, so these are replaced first:

- `localhost:9092` by the bootstrap servers of the test's Kafka;
- the files of `ssl.….location` and `…_file` by files that openssl makes here, with the passwords of
  the options;
- environment variables that `…_env` names are set, and with `globus` those of Globus' SDK;
- a topic's `replication_factor` by 1, since the test's Kafka has one broker.

A driver connects to nothing when it is created, so its hosts need not exist.
"""

import copy
import functools
import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import ADDRESS, Block

Options = dict[str, Any]

# The library ignores other keys of these objects without a warning.
CLIENT_KEYS = {
    "producer": {"kafka", "client", "records", "partitioner", "transactional_id"},
    "consumer": {"kafka", "on_damaged", "records", "commits"},
}
FILE_KEY = re.compile(r"(\.location|_file)$")
ENVIRONMENT_KEY = re.compile(r"_env$")
# What Globus' SDK leaves in the environment of a driver with `globus`.
GLOBUS = {"OCTOPUS_AWS_ACCESS_KEY_ID": "documented", "OCTOPUS_AWS_SECRET_ACCESS_KEY": "documented", "OCTOPUS_BOOTSTRAP_SERVERS": ADDRESS}
SECONDS = 120
CALL = "ci/with-kafka.sh ci/docs.sh --run"
# For each kind, options that the library must reject: if it takes these, the test sees nothing.
REJECTED: dict[str, Options] = {
    "driver": {"kafka": {"bootstrap.servers": ADDRESS}, "tmeout_ms": 1},
    "topic": {"num_partitons": 1},
    "producer": {"kafka": {"linger": 1}},
    "consumer": {"kafka": {"auto.offset": "latest"}},
}


@functools.cache
def target_folder(root: Path) -> Path:
    """The folder that cargo builds into."""
    printed = subprocess.run([root / "ci/target.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(printed.strip())


class OptionsTest:
    """The compiled program, and the files that take the place of those in options."""

    def __init__(self, root: Path, folder: Path, bootstrap: str | None) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        built = target_folder(root) / "release/liboctopus.so"
        self.library = Path(os.environ.get("OCTOPUS_LIBRARY", built)).resolve()
        if not self.library.is_file():
            raise OSError(f"there is no {self.library}; build it with: cargo build --release -p octopus")
        self.program = folder / "options"
        includes = ["-I", str(root / "include"), "-I", str(root / "plugin-tests/hosts")]
        source = [str(root / "ci/docs/options.c"), "-o", str(self.program), "-ldl"]
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", *includes, *source], check=True)
        for kind, options in REJECTED.items():
            if (kind == "driver" or bootstrap) and self.create(kind, options) is None:
                raise OSError(f"the test of options does not notice wrong ones of a {kind}: {options}")

    def verify(self, block: Block) -> str | None:
        """Why the options of a block are wrong; None if they are right."""
        assert block.marker is not None
        options = json.loads(block.text)
        if not isinstance(options, dict):
            return "the options are no JSON object"
        return self.create(block.marker.argument, options)

    def create(self, kind: str, options: Options) -> str | None:
        options = copy.deepcopy(options)
        environment = dict(os.environ)
        if "globus" in options:
            environment |= GLOBUS
        try:
            self.replace(options, "", dict(flattened(options.get("kafka", {}), "")), environment)
        except OSError as error:
            return str(error)
        unknown = options.keys() - CLIENT_KEYS.get(kind, options.keys())
        if unknown:
            return f"a {kind} has no option {', '.join(sorted(unknown))}"
        arguments = []
        if kind == "topic":
            if not re.fullmatch("[1-9][0-9]*", str(options.get("replication_factor", 1))):
                return "replication_factor is no number above 0"
            options["replication_factor"] = 1
        if kind != "driver":
            if self.bootstrap is None:
                return f"a {kind} needs a Kafka: {CALL}"
            arguments = [self.bootstrap, f"docs-options-{uuid.uuid4().hex[:12]}"]
        return self.run([kind, json.dumps(options), *arguments], environment)

    def run(self, arguments: list[str], environment: dict[str, str]) -> str | None:
        command = [str(self.program), str(self.library), *arguments]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"the library did not create the object in {SECONDS} s"
        if done.returncode != 0:
            return f"the library rejects them: {done.stderr.strip() or f'status {done.returncode}'}"
        ignored = [line for line in done.stderr.splitlines() if "ignored" in line]
        return f"the library warns: {ignored[0].strip()}" if ignored else None

    def replace(self, parent: Any, path: str, kafka: dict[str, str], environment: dict[str, str]) -> None:
        """Replaces what only readers have, in an object or array and all that it contains. `kafka`
        has the flat properties, among them the passwords of files."""
        for key, value in list(parent.items() if isinstance(parent, dict) else enumerate(parent)):
            name = f"{path}.{key}".lstrip(".") if isinstance(parent, dict) else path
            if isinstance(value, (dict, list)):
                self.replace(value, name, kafka, environment)
            elif not isinstance(value, str):
                continue
            elif FILE_KEY.search(name) and value.startswith("/"):
                parent[key] = str(self.make_file(name, kafka))
            elif ENVIRONMENT_KEY.search(name):
                environment[value] = "documented"
            elif ADDRESS in value and self.bootstrap:
                parent[key] = value.replace(ADDRESS, self.bootstrap)

    def make_file(self, name: str, kafka: dict[str, str]) -> Path:
        """A file for the option of this name."""
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        if not certificate.exists():
            request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=documented", "-days", "2"]
            openssl(*request, "-keyout", key, "-out", certificate)
        if name.endswith(("ca.location", "certificate.location")):
            return certificate
        if name.endswith("ssl.key.location"):
            if "ssl.key.password" not in kafka:
                return key
            protected = self.folder / "protected.pem"
            openssl("rsa", "-aes256", "-passout", f"pass:{kafka['ssl.key.password']}", "-in", key, "-out", protected)
            return protected
        if name.endswith("ssl.keystore.location"):
            store = self.folder / "store.p12"
            password = f"pass:{kafka.get('ssl.keystore.password', '')}"
            openssl("pkcs12", "-export", "-passout", password, "-inkey", key, "-in", certificate, "-out", store)
            return store
        if name.endswith("_file"):
            text = self.folder / "text"
            text.write_text("documented\n")
            return text
        raise OSError(f"the test has no file for {name}: add one in ci/docs/options.py, or mark the block 'by hand'")


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def flattened(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Properties in the form `ssl.key.password`."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from flattened(child, f"{path}.{key}".lstrip("."))
    else:
        yield path, str(value)
