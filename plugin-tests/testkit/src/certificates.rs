//! Certificate authorities and certificates, created in each test run, as files for brokers,
//! clients and web servers.

use std::fs;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::{scratch_folder, unique};

/// The password of encrypted client keys.
pub const KEY_PASSWORD: &str = "octopus-test-secret-of-the-key";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: String,
}

/// The files of one certificate and its key.
pub struct Pair {
    /// The path of the certificate.
    pub certificate: String,
    /// The path of the private key.
    pub key: String,
}

impl Authority {
    /// Creates an authority with this common name.
    pub fn new(name: &str) -> Self {
        let mut params = params_of(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), file: write("authority", &certificate.pem()) }
    }

    /// The path of the authority's own certificate.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Issues a certificate for a server or client with this host name or address.
    pub fn certificate(&self, name: &str, host: &str) -> Pair {
        self.signed(name, params_of(name, Some(host)))
    }

    /// Issues a certificate that expired in 2021.
    pub fn expired_certificate(&self, name: &str, host: &str) -> Pair {
        let mut params = params_of(name, Some(host));
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.signed(name, params)
    }

    fn signed(&self, name: &str, mut params: CertificateParams) -> Pair {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: write(name, &certificate.pem()), key: write(name, &key.serialize_pem()) }
    }
}

impl Pair {
    /// Writes the key and the certificate to one file, the format that brokers expect.
    pub fn both(&self) -> String {
        write("both", &(fs::read_to_string(&self.key).unwrap() + &fs::read_to_string(&self.certificate).unwrap()))
    }

    /// The same certificate, with its key encrypted by [`KEY_PASSWORD`].
    pub fn with_encrypted_key(&self) -> Pair {
        let key = write("encrypted", "");
        let password = format!("pass:{KEY_PASSWORD}");
        let arguments =
            ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", &self.key, "-out", &key, "-passout", &password];
        assert!(Command::new("openssl").args(arguments).status().unwrap().success());
        Pair { certificate: self.certificate.clone(), key }
    }
}

fn params_of(name: &str, host: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::new(host.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(name: &str, text: &str) -> String {
    let path = scratch_folder("certificates").unwrap().join(format!("{}.pem", unique(name)));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
