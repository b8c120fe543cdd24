//! librdkafka's `config.h`. It is written here instead of by its configure script, so that a build
//! does not depend on what that script finds on a machine.

use std::fmt::Write as _;

use crate::sources::TargetSystem;

/// The optional features of librdkafka, which the plugin's cargo features select.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// TLS, SCRAM and OAUTHBEARER, by OpenSSL.
    pub tls: bool,
    /// Tokens from an OpenID provider, by libcurl. Needs `tls`.
    pub oidc: bool,
    /// Kerberos, which Octopus implements.
    pub gssapi: bool,
    /// Zstandard compression.
    pub zstd: bool,
}

impl Features {
    /// # Errors
    /// If a feature that another one needs is off.
    pub fn check(&self) -> Result<(), String> {
        if self.oidc && !self.tls {
            return Err("librdkafka's OIDC needs TLS: enable the feature `tls` with `oidc`".to_owned());
        }
        Ok(())
    }
}

/// The definitions for every Linux with glibc 2.28 or musl 1.1.5. The names are those of
/// librdkafka's configure.self.
const ALWAYS: [(&str, &str); 18] = [
    ("ENABLE_DEVEL", "0"),
    ("HAVE_ATOMICS_32", "1"),
    ("HAVE_ATOMICS_32_ATOMIC", "1"),
    ("HAVE_ATOMICS_64", "1"),
    ("HAVE_ATOMICS_64_ATOMIC", "1"),
    ("HAVE_GETRUSAGE", "1"),
    ("HAVE_PTHREAD_SETNAME_GNU", "1"),
    ("HAVE_RAND_R", "1"),
    ("HAVE_REGEX", "1"),
    ("HAVE_STRCASESTR", "1"),
    ("HAVE_STRERROR_R", "1"),
    ("HAVE_STRNDUP", "1"),
    ("WITH_HDRHISTOGRAM", "1"),
    ("WITH_LIBDL", "1"),
    ("WITH_PLUGINS", "1"),
    ("WITH_SNAPPY", "1"),
    ("WITH_SYSLOG", "1"),
    ("WITH_ZLIB", "1"),
];

/// The text of `config.h`. `patched_version` replaces the version of rdkafka.h in
/// `rd_kafka_version_str()`.
pub fn config_h(features: &Features, target: &TargetSystem, patched_version: Option<&str>) -> String {
    let mut text = String::from("/* Written by Octopus' build: src/kafka/librdkafka-build. */\n#pragma once\n\n");
    let mut define =
        |name: &str, value: &str| writeln!(text, "#define {name} {value}").expect("writing to a String never fails");
    for (name, value) in ALWAYS {
        define(name, value);
    }
    for size in ["ATOMIC_OP32", "ATOMIC_OP64", "ATOMIC_OP"] {
        define(&format!("{size}(OP1, OP2, PTR, VAL)"), "__atomic_##OP1##_##OP2(PTR, VAL, __ATOMIC_SEQ_CST)");
    }
    let mut built_with = vec!["HDRHISTOGRAM", "LIBDL", "PLUGINS", "SNAPPY", "SYSLOG", "ZLIB"];
    let optional: [(&[&str], bool); 5] = [
        (&["SSL", "SASL_SCRAM", "SASL_OAUTHBEARER"], features.tls),
        (&["CURL", "OAUTHBEARER_OIDC"], features.oidc),
        (&["SASL_OCTOPUS"], features.gssapi),
        (&["ZSTD"], features.zstd),
        // The instruction is used only if the processor has it.
        (&["CRC32C_HW"], target.is_x86_64),
    ];
    for (names, _) in optional.iter().filter(|(_, is_on)| *is_on) {
        for name in *names {
            define(&format!("WITH_{name}"), "1");
            built_with.push(name);
        }
    }
    if features.tls {
        define("OPENSSL_SUPPRESS_DEPRECATED", "1");
    }
    define("SOLIB_EXT", "\".so\"");
    define("BUILT_WITH", &format!("\"{}\"", built_with.join(" ")));
    if let Some(version) = patched_version {
        define("LIBRDKAFKA_GIT_VERSION", &format!("\"{version}\""));
    }
    // Sanitizers notice threads only if pthread_create creates them, so that ci/sanitize.sh defines
    // it as 0.
    text.push_str("#ifndef WITH_C11THREADS\n#define WITH_C11THREADS 1\n#endif\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features { tls: true, oidc: true, gssapi: true, zstd: true };
    const NONE: Features = Features { tls: false, oidc: false, gssapi: false, zstd: false };

    fn defines(features: &Features, is_x86_64: bool, patched_version: Option<&str>) -> Vec<String> {
        let text = config_h(features, &TargetSystem { is_x86_64 }, patched_version);
        text.lines().filter_map(|line| Some(line.strip_prefix("#define ")?.to_owned())).collect()
    }

    #[test]
    fn config_h_defines_each_name_once() {
        let mut names: Vec<_> =
            defines(&ALL, true, Some("1")).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn config_h_has_a_feature_only_if_it_is_on() {
        for (name, is_x86_64_only) in [
            ("WITH_SSL 1", false),
            ("WITH_OAUTHBEARER_OIDC 1", false),
            ("WITH_SASL_OCTOPUS 1", false),
            ("WITH_ZSTD 1", false),
            ("WITH_CRC32C_HW 1", true),
        ] {
            assert!(defines(&ALL, true, None).iter().any(|line| line == name), "{name}");
            assert_eq!(defines(&ALL, false, None).iter().any(|line| line == name), !is_x86_64_only, "{name}");
            assert!(!defines(&NONE, false, None).iter().any(|line| line == name), "{name}");
        }
    }

    #[test]
    fn config_h_names_the_patched_version_only_with_patches() {
        let is_version = |line: &String| line.starts_with("LIBRDKAFKA_GIT_VERSION");
        assert!(!defines(&ALL, true, None).iter().any(is_version));
        assert!(
            defines(&ALL, true, Some("2.12.1+octopus.3"))
                .contains(&"LIBRDKAFKA_GIT_VERSION \"2.12.1+octopus.3\"".to_owned())
        );
    }

    #[test]
    fn oidc_without_tls_is_an_error() {
        assert!(Features { oidc: true, ..NONE }.check().unwrap_err().contains("`tls`"));
        assert!(ALL.check().is_ok() && NONE.check().is_ok());
    }
}
