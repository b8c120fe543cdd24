//! Programs in C++, Rust and Python find the library in the same locations, in the same order, and
//! say the same if it is nowhere: docs/reference/discovery.md.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::hosts::{CPP, compile, library};
use crate::kafka::unique;
use crate::support::octopus;

/// A folder with `liboctopus.so`, which `libs/liboctopus.so` is a link to.
struct Installed(PathBuf);

impl Installed {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("finding"));
        fs::create_dir_all(folder.join("lib")).unwrap();
        symlink(library(), folder.join("lib/liboctopus.so")).unwrap();
        Installed(folder)
    }

    fn folder(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn library(&self) -> String {
        format!("{}/lib/liboctopus.so", self.folder())
    }

    /// Writes `folder`/octopus/octopus.driver, where `folder` is relative to this one, and returns
    /// the absolute folder.
    fn manifest(&self, folder: &str, text: &str) -> String {
        let folder = self.0.join(folder);
        fs::create_dir_all(folder.join("octopus")).unwrap();
        fs::write(folder.join("octopus/octopus.driver"), text).unwrap();
        folder.to_str().unwrap().to_owned()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn abi() -> String {
    let api = octopus().api();
    format!("{}.{}", api.abi_major, api.abi_minor)
}

fn programs() -> [(&'static str, Command); 3] {
    // Compiled once, as each test uses it.
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    let cpp = Command::new(COMPILED.get_or_init(|| compile(&CPP, "finding.cpp", "finding", &["-ldl"])));
    let rust = Command::new(env!("CARGO_BIN_EXE_finding"));
    let mut python = Command::new("python3");
    python.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/python/finding.py")]);
    [("C++", cpp), ("Rust", rust), ("Python", python)]
}

/// Runs a program without any other variables than these.
fn run(mut program: Command, variables: &[(&str, &str)]) -> (bool, String) {
    program.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(variables.iter().copied());
    let Output { status, stdout, stderr } = program.output().unwrap();
    assert!(stderr.is_empty(), "{program:?}: {}", String::from_utf8_lossy(&stderr));
    (status.success(), String::from_utf8(stdout).unwrap().trim_end().to_owned())
}

fn assert_found(variables: &[(&str, &str)], expected: &str) {
    let expected = fs::canonicalize(expected).unwrap();
    for (language, program) in programs() {
        let (is_found, printed) = run(program, variables);
        assert!(is_found, "{language} with {variables:?}: {printed}");
        assert_eq!(fs::canonicalize(&printed).unwrap(), expected, "{language} with {variables:?}");
    }
}

fn assert_not_found(variables: &[(&str, &str)], expected: &[&str]) {
    for (language, program) in programs() {
        let (is_found, printed) = run(program, variables);
        assert!(!is_found, "{language} with {variables:?}: {printed}");
        let mut rest = printed.as_str();
        for part in expected {
            let at = rest.find(part).unwrap_or_else(|| panic!("{language}: {part:?} is not next in: {printed}"));
            rest = &rest[at + part.len()..];
        }
    }
}

#[test]
fn library_is_found_in_each_location() {
    let installed = Installed::new();
    let path = installed.library();
    assert_found(&[("OCTOPUS_LIBRARY", &path)], &path);
    assert_found(&[("CONDA_PREFIX", installed.folder())], &path);
    assert_found(&[("LD_LIBRARY_PATH", &format!("{}/lib", installed.folder()))], &path);

    let relative = format!("# of a test\npath = ../../../lib/liboctopus.so\nabi={}\nversion=0.1.0\n", abi());
    installed.manifest("home/.config", &relative);
    assert_found(&[("HOME", &format!("{}/home", installed.folder()))], &path);
    let config = installed.manifest("user/config", &relative);
    assert_found(&[("XDG_CONFIG_HOME", &config), ("HOME", "/nowhere")], &path);
    let absolute = installed.manifest("absolute", &format!("path={path}\n"));
    assert_found(&[("XDG_CONFIG_HOME", &absolute)], &path);
}

#[test]
fn first_location_wins() {
    let (first, second) = (Installed::new(), Installed::new());
    // A copy, so that the two files differ.
    fs::remove_file(second.library()).unwrap();
    fs::copy(library(), second.library()).unwrap();
    let manifest = second.manifest("config", &format!("path={}\n", second.library()));

    let named = [("OCTOPUS_LIBRARY", &first.library()[..]), ("XDG_CONFIG_HOME", &manifest)];
    assert_found(&named, &first.library());
    assert_found(&[("XDG_CONFIG_HOME", &manifest), ("CONDA_PREFIX", first.folder())], &second.library());
    let folder = format!("{}/lib", first.folder());
    assert_found(&[("CONDA_PREFIX", second.folder()), ("LD_LIBRARY_PATH", &folder)], &second.library());
}

#[test]
fn named_library_that_cannot_be_loaded_is_an_error() {
    let installed = Installed::new();
    let conda = ("CONDA_PREFIX", installed.folder());
    for (named, reason) in [("/nowhere/liboctopus.so", "No such file"), ("libc.so.6", "it is not Octopus: ")] {
        let start = format!("loading Octopus: OCTOPUS_LIBRARY={named}: ");
        assert_not_found(&[("OCTOPUS_LIBRARY", named), conda], &[&start, reason]);
    }
}

#[test]
fn unusable_manifest_does_not_end_the_search() {
    let installed = Installed::new();
    for (text, reason) in [
        ("path=/nowhere/liboctopus.so\n".to_owned(), "octopus.driver: /nowhere/liboctopus.so: cannot open"),
        ("version=0.1.0\n".to_owned(), "octopus.driver: it has no line path="),
        (format!("path={}\nabi=7.0\n", installed.library()), "octopus.driver: its library has ABI version 7.0, this"),
    ] {
        let config = installed.manifest("config", &text);
        assert_not_found(&[("XDG_CONFIG_HOME", &config)], &[&config, reason]);
        assert_found(&[("XDG_CONFIG_HOME", &config), ("CONDA_PREFIX", installed.folder())], &installed.library());
    }
}

/// As C++ Octopus would be, which has the same file name.
#[test]
fn other_library_of_the_name_does_not_hide_the_one_after_it() {
    let (other, installed) = (Installed::new(), Installed::new());
    fs::remove_file(other.library()).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-Wl,-soname,liboctopus.so", "-x", "c", "/dev/null", "-o", &other.library()]);
    assert!(compiler.status().unwrap().success());
    let conda = ("CONDA_PREFIX", other.folder());
    assert_not_found(&[conda], &[&other.library(), ": it is not Octopus: "]);
    let folder = format!("{}/lib", installed.folder());
    assert_found(&[conda, ("LD_LIBRARY_PATH", &folder)], &installed.library());
}

#[test]
fn error_lists_each_location() {
    assert_not_found(
        &[("HOME", "/nowhere")],
        &[
            "loading Octopus: it was not found: OCTOPUS_LIBRARY: not set; ",
            "/nowhere/.config/octopus/octopus.driver: No such file or directory",
            "; /etc/octopus/octopus.driver: No such file or directory",
            "; CONDA_PREFIX: not set; ",
            "liboctopus.so: cannot open shared object file: No such file or directory; ",
            "install it, or set OCTOPUS_LIBRARY to the path of liboctopus.so",
        ],
    );
}

#[test]
fn manifest_of_the_system_is_found() {
    let installed = Installed::new();
    let manifest = installed.manifest("etc", &format!("path={}\n", installed.library()));
    for (language, program) in programs() {
        // Another /etc, which only this process sees.
        let script = format!("mount --bind {manifest} /etc && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        let (is_found, printed) = run(command, &[]);
        assert!(is_found, "{language}: {printed}");
        assert_eq!(fs::canonicalize(&printed).unwrap(), library(), "{language}");
    }
}

/// Python's programs are scripts, whose files can't give rights.
#[test]
fn program_with_more_rights_than_its_user_ignores_the_environment() {
    let installed = Installed::new();
    let home = installed.manifest("home/.config", &format!("path={}\n", installed.library()));
    let variables = [
        ("OCTOPUS_LIBRARY", &installed.library()[..]),
        ("XDG_CONFIG_HOME", &home),
        ("HOME", &home),
        ("CONDA_PREFIX", installed.folder()),
    ];
    // The program `id` shows whether the system gives a program the group of its file.
    let group = other_group(&installed.0);
    let probe =
        setgid_copy(&installed.0, "/usr/bin/id", group).map(|mut probe| probe.arg("-g").output().unwrap().stdout);
    if probe.is_none_or(|printed| String::from_utf8_lossy(&printed).trim() != group.to_string()) {
        eprintln!("skipped: this system gives no program more rights (nosuid, no_new_privs, or no group to give)");
        return;
    }
    for (language, program) in programs().into_iter().take(2) {
        let privileged = setgid_copy(&installed.0, program.get_program(), group).unwrap();

        let (is_found, printed) = run(privileged, &variables);

        assert!(!is_found, "{language}: {printed}");
        for name in ["OCTOPUS_LIBRARY", "XDG_CONFIG_HOME", "HOME", "CONDA_PREFIX"] {
            let ignored = format!("{name}: ignored, since the program has more rights than its user; ");
            assert!(printed.contains(&ignored), "{language}: {printed}");
        }
    }
}

/// A copy of the program that runs with the rights of the group; `None` if the file can't be given
/// to the group.
fn setgid_copy(folder: &Path, program: impl AsRef<OsStr>, group: u32) -> Option<Command> {
    let copy = folder.join("privileged");
    let _ = fs::remove_file(&copy);
    // By another process: a file that this one has open for writing could be inherited.
    assert!(Command::new("cp").arg(program.as_ref()).arg(&copy).status().unwrap().success());
    std::os::unix::fs::chown(&copy, None, Some(group)).ok()?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o2755)).unwrap();
    Some(Command::new(copy))
}

/// A group that the user may give a file to, other than that of the file, if there is one.
fn other_group(file: &Path) -> u32 {
    let printed = String::from_utf8(Command::new("id").arg("-G").output().unwrap().stdout).unwrap();
    let mut groups: Vec<u32> = printed.split_whitespace().map(|group| group.parse().unwrap()).collect();
    let metadata = fs::metadata(file).unwrap();
    if metadata.uid() == 0 {
        groups.push(65534);
    }
    groups.into_iter().find(|group| *group != metadata.gid()).unwrap_or(metadata.gid())
}
