"""The recipe of Octopus for Spack: docs/packages.md."""

from pathlib import Path

from spack.package import *

try:
    from spack_repo.builtin.build_systems.generic import Package

    COMPILERS_ARE_DEPENDENCIES = True
except ImportError:  # Before Spack 1.0, the import above has Package.
    COMPILERS_ARE_DEPENDENCIES = False


class DiasporaOctopus(Package):
    """A Kafka backend for the Diaspora Streaming API, with a C ABI. It can replace the package
    diaspora-stream-octopus."""

    # The repository that has this recipe.
    git = Path(__file__).resolve().parents[4].as_uri()
    homepage = git

    license("Apache-2.0")

    version("main", branch="main")

    variant("aws", default=True, description="AWS' chain of credential providers, for Amazon MSK")
    variant("gssapi", default=True, description="Kerberos, by the system's libgssapi_krb5, loaded when it is needed")
    variant("diaspora", default=True, description="The driver of the C++ Diaspora Stream API, in the same library")

    if COMPILERS_ARE_DEPENDENCIES:
        # Without them, Spack sets neither CC nor CXX, and the build takes the system's compilers,
        # without the folders of dependencies that Spack's wrappers add.
        depends_on("c", type="build")
        depends_on("cxx", type="build", when="+diaspora")
    depends_on("rust@1.95:", type="build")
    depends_on("gmake", type="build")
    depends_on("perl", type="build")
    depends_on("pkgconfig", type="build", when="+diaspora")
    depends_on("diaspora-stream-api@0.5.2:", when="+diaspora")
    # src/diaspora includes its headers. With type="build" it could be another version than that
    # of the API, whose symbols have the version in their names.
    depends_on("nlohmann-json@3:", when="+diaspora")

    # Both have a liboctopus.so, of which a program can load one.
    conflicts("^diaspora-stream-octopus")

    @property
    def headers(self):
        return find_headers("octopus", self.prefix.include)

    @property
    def libs(self):
        return find_libraries("liboctopus", self.prefix, recursive=True)

    def features(self):
        yield from ("msk", "oidc", "patched", "schema", "tls", "topic-service", "zstd")
        yield from (name for name in ("aws", "diaspora", "gssapi") if f"+{name}" in self.spec)

    def setup_build_environment(self, env):
        env.set("CARGO_TARGET_DIR", join_path(self.stage.path, "target"))
        if "+diaspora" in self.spec:
            env.set("DIASPORA_PREFIX", self.spec["diaspora-stream-api"].prefix)

    def setup_run_environment(self, env):
        env.set("OCTOPUS_LIBRARY", join_path(self.prefix.lib, "liboctopus.so"))
        # The Diaspora API looks for the library of a driver by its file name.
        env.prepend_path("LD_LIBRARY_PATH", self.prefix.lib)

    def install(self, spec, prefix):
        cargo = which("cargo", required=True)
        cargo("build", "--release", "--locked", "--jobs", str(make_jobs), "-p", "octopus", "--no-default-features", "--features", ",".join(self.features()))
        library = join_path(self.stage.path, "target", "release", "liboctopus.so")
        Executable("ci/install.sh")("--prefix", prefix, "--library", library)
