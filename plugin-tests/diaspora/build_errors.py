"""Tests that a build of the C++ adapter says what is missing or too old: CMake, which makes the
library of its own, and the build script, for the library with the adapter inside.

    python3 build_errors.py OCTOPUS_PREFIX BUILD_SCRIPT [API_PREFIX]

OCTOPUS_PREFIX is an installation by ci/install.sh. BUILD_SCRIPT is the program that cargo makes of
build.rs. API_PREFIX is an API that the build script must accept. Installations of the API that are
too old, new or incomplete are imitated by folders without a program. Nothing is compiled.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
API = "diaspora-stream-api"
# Hides what the machine has installed. It is read after the test of the compiler.
HIDE_SYSTEM = """
foreach(place CMAKE_SYSTEM_PATH SYSTEM_ENVIRONMENT_PATH CMAKE_ENVIRONMENT_PATH PACKAGE_ROOT_PATH
        SYSTEM_PACKAGE_REGISTRY PACKAGE_REGISTRY)
    set(CMAKE_FIND_USE_${place} OFF)
endforeach()
"""


class Folder:
    """Writes files below a folder."""

    def __init__(self, path):
        self.path = path

    def write(self, name, text=""):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self


class BuildErrors(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)

    def remove(self, *names):
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)

    def api(self, *, pkg_config="", cmake=None, library=None):
        """Imitates an API whose files state these versions. The real 0.5.2 states none for pkg-config."""
        folder = Folder(self.root / "api").write("include/diaspora/Driver.hpp")
        folder.write(
            f"lib/pkgconfig/{API}.pc",
            f"prefix={folder.path}\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include\n"
            f"Name: {API}\nDescription: an imitation\nVersion: {pkg_config}\n"
            f"Libs: -L${{libdir}} -l{API}\nCflags: -I${{includedir}}\n",
        )
        if cmake:
            file = f"share/cmake/{API}/{API}-config-version.cmake"
            folder.write(file, f'# A comment.\nset(PACKAGE_VERSION "{cmake}")\n')
        name = f"lib{API}.so"
        real = f"{name}.{library}" if library else name
        folder.write(f"lib/{real}")
        if library:
            (folder.path / "lib" / name).symlink_to(real)
        return folder.path


class Cmake(BuildErrors):
    def configure(self, *prefixes, pkg_config=True):
        """Returns what `cmake` prints about the error."""
        hide = self.root / "hide.cmake"
        hide.write_text(HIDE_SYSTEM)
        program = shutil.which("pkg-config") or shutil.which("pkgconf")
        options = [f"-DPKG_CONFIG_EXECUTABLE={program}"] if pkg_config else []
        ran = subprocess.run(
            ["cmake", "-S", REPOSITORY / "src/diaspora", "-B", self.root / "build", f"-DCMAKE_PROJECT_INCLUDE={hide}"]
            + [f"-DCMAKE_PREFIX_PATH={';'.join(map(str, prefixes))}", *options],
            env=environment(PKG_CONFIG_LIBDIR=str(self.root)),
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        self.assertNotIn("NOTFOUND", ran.stderr)
        return " ".join(ran.stderr.split())

    def check(self, error, *parts):
        for part in parts:
            self.assertIn(part, error)

    def test_missing_octopus_names_the_command_that_installs_it(self):
        error = self.configure(self.api(cmake="0.5.2"))
        self.check(error, "Octopus 0.1 is not found. Install it with `ci/install.sh --prefix DIR`", "CMAKE_PREFIX_PATH")

    def test_cpp_octopus_is_not_taken_for_octopus(self):
        cpp = Folder(self.root / "cpp").write("share/cmake/octopus/octopus-config.cmake")
        cpp.write(
            "share/cmake/octopus/octopus-config-version.cmake",
            'set(PACKAGE_VERSION "0.1.2")\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n',
        )
        error = self.configure(cpp.path, self.api(cmake="0.5.2"))
        self.check(error, "Octopus 0.1 is not found", str(cpp.path), "is of version 0.1.2 of C++ Octopus", "put DIR first")

    def test_incomplete_octopus_is_to_be_installed_again(self):
        copy = self.root / "octopus"
        shutil.copytree(OCTOPUS, copy, symlinks=True)
        (copy / "include/octopus.h").unlink()
        error = self.configure(copy, self.api(cmake="0.5.2"))
        self.check(error, "Octopus 0.1 is not found", "octopus.h is missing; install Octopus again")

    def test_missing_pkg_config_names_its_packages(self):
        error = self.configure(OCTOPUS, self.api(cmake="0.5.2"), pkg_config=False)
        self.check(error, "pkg-config is not found", "install it (Debian: pkg-config, Fedora: pkgconf-pkg-config)")
        self.assertNotIn("Could NOT find", error)

    def test_missing_api_names_the_version_and_the_variables(self):
        error = self.configure(OCTOPUS)
        self.check(error, f"{API} is not found: install version 0.5.2 or later", "CMAKE_PREFIX_PATH", "PKG_CONFIG_PATH")

    def test_api_without_its_library_names_the_folder(self):
        api = self.api(cmake="0.5.2")
        (api / f"lib/lib{API}.so").unlink()
        error = self.configure(OCTOPUS, api)
        self.check(error, f"lib{API}.so is not in {api}/lib", f"install {API} 0.5.2 or later again")

    def test_old_api_is_rejected_with_its_version(self):
        for files in OLD:
            with self.subTest(files=files):
                self.remove("api", "build")
                api = self.api(**files)
                error = self.configure(OCTOPUS, api)
                self.check(error, f"{API} in {api} has version 0.5.1", "too old: install version 0.5.2 or later")
                self.check(error, "configure a new build folder")

    def test_newer_api_without_json_names_the_json_package(self):
        for files in NEW:
            with self.subTest(files=files):
                self.remove("api", "build")
                error = self.configure(OCTOPUS, self.api(**files))
                self.check(error, "nlohmann/json.hpp is not found: install nlohmann-json 3", "nlohmann-json3-dev")
                self.assertNotIn("Warning", error)

    def test_api_without_a_version_is_accepted_with_a_warning(self):
        error = self.configure(OCTOPUS, self.api())
        self.check(error, "states no version; 0.5.2 or later is needed", "nlohmann/json.hpp is not found")

    def test_corrected_prefix_has_an_effect_in_the_same_folder(self):
        self.check(self.configure(), "Octopus 0.1 is not found")
        self.check(self.configure(OCTOPUS), f"{API} is not found")
        self.check(self.configure(OCTOPUS, self.api(cmake="0.6.0")), "nlohmann/json.hpp is not found")


class BuildScript(BuildErrors):
    def run_script(self, prefix, **variables):
        """Returns what the build script prints."""
        given = {"DIASPORA_PREFIX": str(prefix)} if prefix else {}
        # Without the variables that cargo sets, a build script that accepts the API fails later.
        ran = subprocess.run(
            [SCRIPT],
            cwd=REPOSITORY,
            env=environment(OUT_DIR=str(self.root), **given, **variables),
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        return ran.stdout + ran.stderr

    def test_old_api_is_rejected_with_its_version(self):
        for files in OLD:
            with self.subTest(files=files):
                self.remove("api")
                api = self.api(**files)
                needs = f"The feature `diaspora` needs {API} 0.5.2 or later, and"
                place = f"the one in DIASPORA_PREFIX={api} has version 0.5.1."
                self.assertIn(f"{needs} {place}", self.run_script(api))
                place = f"the one that pkg-config finds in {api} has version 0.5.1."
                self.assertIn(f"{needs} {place}", self.run_script(None, PKG_CONFIG_PATH=f"{api}/lib/pkgconfig"))

    def test_newer_api_passes_the_check(self):
        for files in NEW:
            with self.subTest(files=files):
                self.remove("api")
                self.assert_passes(self.run_script(self.api(**files)))
        for prefix in API_PREFIXES:
            self.assert_passes(self.run_script(prefix))

    def assert_passes(self, output):
        self.assert_continues(output)
        self.assertNotIn("states no version", output)

    def assert_continues(self, output):
        """Librdkafka is compiled after the check."""
        self.assertNotIn("The feature `diaspora`", output)
        self.assertIn("OCTOPUS_LIBRDKAFKA", output)

    def test_api_without_a_version_is_accepted_with_a_warning(self):
        output = self.run_script(self.api())
        self.assert_continues(output)
        self.assertIn("states no version; 0.5.2 or later is needed", output)

    def test_missing_api_names_the_variables(self):
        output = self.run_script(None, PKG_CONFIG_LIBDIR=str(self.root))
        for part in ["pkg-config does not find it", "Install it, and set DIASPORA_PREFIX", "PKG_CONFIG_PATH"]:
            self.assertIn(part, output)

    def test_prefix_without_headers_or_library_is_rejected(self):
        api = self.api(cmake="0.5.2")
        (api / "include/diaspora/Driver.hpp").unlink()
        self.assertIn(f"there is no include/diaspora/Driver.hpp in DIASPORA_PREFIX={api}", self.run_script(api))
        (api / f"lib/lib{API}.so").unlink()
        self.assertIn(f"there is no lib/lib{API}.so in DIASPORA_PREFIX={api}", self.run_script(api))


# Which files of an API state its version. The first ones win.
OLD = [{"pkg_config": "0.5.1"}, {"cmake": "0.5.1", "library": "0.5.2"}, {"library": "0.5.1"}]
NEW = [{"pkg_config": "0.5.2"}, {"cmake": "0.10.0", "library": "0.5.1"}, {"library": "1.0"}]


def environment(**variables):
    """The environment without what leads CMake, pkg-config or cargo's build scripts elsewhere."""
    prefixes = ("CMAKE_", "PKG_CONFIG", "CARGO_", "DIASPORA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **variables}


if __name__ == "__main__":
    OCTOPUS, SCRIPT, *API_PREFIXES = sys.argv[1:]
    unittest.main(argv=sys.argv[:1], verbosity=2)
