//! Which certificate authorities a proxy trusts, told by their fingerprints.

use std::collections::BTreeSet;
use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

/// So many authorities are told of; a bundle has three at most while they change.
pub const LIMIT: usize = 16;

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The authorities in a proxy's CA file: one of them must have signed the operator's certificate when the proxy connects
/// next.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trust {
    /// At most [`LIMIT`].
    pub authorities: BTreeSet<Fingerprint>,
}

impl Trust {
    /// In a bundle of certificates in PEM. What is no certificate is left out, and so is what is beyond [`LIMIT`].
    pub fn of(bundle: &[u8]) -> Self {
        let certificates = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).take(LIMIT);
        Self { authorities: certificates.map(|certificate| Fingerprint::of(&certificate)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl` says: the SHA-256 of "abc" and "d".
    const ABC: &str = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    const D: &str = "-----BEGIN CERTIFICATE-----\nZA==\n-----END CERTIFICATE-----\n";

    fn fingerprints(bundle: &str) -> Vec<String> {
        let trust = Trust::of(bundle.as_bytes());
        trust.authorities.iter().map(|authority| authority.to_string()[..8].to_owned()).collect()
    }

    #[test]
    fn each_certificate_of_a_bundle_counts_once_and_nothing_else_does() {
        let key = D.replace("CERTIFICATE", "PRIVATE KEY");
        for (bundle, expected) in [
            (ABC.to_owned(), vec!["BA7816BF"]),
            (format!("# the next\n{D}{key}\n# this one\n{ABC}{D}"), vec!["18AC3E73", "BA7816BF"]),
            (String::new(), vec![]),
            ("no PEM at all".to_owned(), vec![]),
        ] {
            assert_eq!(fingerprints(&bundle), expected, "{bundle}");
        }
    }

    #[test]
    fn a_bundle_of_many_is_told_in_part() {
        let encoded = |number: u8| format!("{}{}==", char::from(b'A' + number), 'A');
        let one = |number| D.replace("ZA==", &encoded(number));
        let bundle: String = (0..20).map(one).collect();
        assert_eq!(Trust::of(bundle.as_bytes()).authorities.len(), LIMIT);
    }
}
