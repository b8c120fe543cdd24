"""The declarations are those of the header, the statuses those of the library, and the version that
of the project."""

import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import diaspora_octopus as octopus
from diaspora_octopus import _abi as abi

from .support import ROOT

STRUCTS = {
    name: value
    for name, value in vars(abi).items()
    if isinstance(value, type) and issubclass(value, ctypes.Structure) and name.startswith("octopus_")
}
CONSTANTS = {name: value for name, value in vars(abi).items() if name.startswith("OCTOPUS_")}


def compile_and_run(source):
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        source_file = Path(folder) / "program.c"
        source_file.write_text(source)
        subprocess.run(["cc", "-std=c11", "-I", ROOT / "include", source_file, "-o", program], check=True)
        return subprocess.run([program], check=True, capture_output=True, text=True).stdout


class Abi(unittest.TestCase):
    def test_declarations_are_those_of_the_header(self):
        check = [sys.executable, ROOT / "ci/python-bindings.py", "--check"]
        result = subprocess.run(check, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("cc"), "no C compiler")
    def test_layout_is_that_of_a_c_compiler(self):
        lines = ["#include <stddef.h>", "#include <stdio.h>", '#include "octopus.h"', "int main(void) {"]
        expected = []
        for name, struct in STRUCTS.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            expected.append(f"{name} {ctypes.sizeof(struct)}")
            for field, *_ in struct._fields_:
                lines.append(
                    f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
                )
                layout = getattr(struct, field)
                expected.append(f"{name}.{field} {layout.offset} {layout.size}")
        for name, value in CONSTANTS.items():
            lines.append(f'printf("{name} %lld\\n", (long long){name});')
            expected.append(f"{name} {ctypes.c_int64(value).value}")
        output = compile_and_run("\n".join(lines + ["}"]))
        self.assertEqual(output.splitlines(), expected)
        self.assertGreater(len(STRUCTS), 25)
        self.assertGreater(len(CONSTANTS), 45)

    def test_statuses_are_those_of_the_library(self):
        source = (ROOT / "src/abi/status.rs").read_text()
        statuses = dict(re.findall(r"pub const OCTOPUS_(\w+): octopus_status = (-?\d+);", source))
        self.assertEqual({status.name: str(status.value) for status in octopus.Status}, statuses)

    def test_version_is_that_of_the_project(self):
        version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertEqual(octopus.__version__, version)

    def test_every_public_name_is_documented(self):
        for name in octopus.__all__:
            value = getattr(octopus, name)
            if isinstance(value, type):
                members = [member for member in vars(value) if not member.startswith("_")]
                documented = [value] + [getattr(value, member) for member in members]
                for each in documented:
                    if callable(each) or isinstance(each, property):
                        self.assertTrue(each.__doc__, f"{name}: {each} has no docstring")


if __name__ == "__main__":
    unittest.main()
