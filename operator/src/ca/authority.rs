//! A certificate authority: a key, and the certificate that proxies trust.

use std::time::Duration;

use evenkeel_proxy_api::trust::Fingerprint;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::PUSH_SERVICE;

/// Followed by when it was made: people tell two of them apart by it, and a proxy that is lost says `UnknownIssuer`.
const COMMON_NAME: &str = "evenkeel operator CA";
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long an authority lives.
const LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a serving certificate lives.
pub(super) const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Certificates are valid since so long ago: not every clock in a cluster is right.
const SKEW: SignedDuration = DAY;

/// A certificate authority.
#[derive(Clone)]
pub struct Authority {
    certificate: String,
    key: String,
    fingerprint: Fingerprint,
    expires: Timestamp,
}

/// Two are the same when their certificate and key are.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }
}

/// What the push server shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why a certificate and a key make no authority.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The certificate cannot be read.
    #[error("its certificate cannot be read: {0}")]
    Certificate(String),
    /// The key cannot be read, or there is no randomness for a new one.
    #[error("its key cannot be used: {0}")]
    Key(#[from] rcgen::Error),
    /// One of them was replaced alone.
    #[error("its key is not that of its certificate")]
    Mismatch,
}

impl Authority {
    /// A new one, valid for ten years.
    pub fn generate(now: Timestamp) -> Result<Self, Unusable> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        let name = format!("{COMMON_NAME} {}", now.strftime("%FT%TZ"));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, now.saturating_add(LIFE).unwrap_or(Timestamp::MAX));
        let certificate = params.self_signed(&key)?.pem();
        Self::parse(certificate, key.serialize_pem())
    }

    /// From PEM.
    pub fn parse(certificate: String, key: String) -> Result<Self, Unusable> {
        let der = read(&certificate)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(unreadable)?;
        if parsed.public_key().raw != KeyPair::from_pem(&key)?.subject_public_key_info() {
            return Err(Unusable::Mismatch);
        }
        let expires = Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(unreadable)?;
        Ok(Self { certificate, key, fingerprint: Fingerprint::of(&der), expires })
    }

    /// What proxies trust, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, PEM.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When its certificate ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// A serving certificate for the Service that proxies dial in `namespace`, valid for 30 days from `now`, but not
    /// longer than the authority.
    pub fn sign(&self, namespace: &str, now: Timestamp) -> Result<Identity, Unusable> {
        let service = format!("{PUSH_SERVICE}.{namespace}.svc");
        let names = [PUSH_SERVICE.to_owned(), format!("{service}.cluster.local"), service];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "evenkeel operator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let expires = now.saturating_add(SERVING_LIFE).map_or(self.expires, |end| end.min(self.expires));
        set_validity(&mut params, now, expires);
        let issuer = Issuer::from_ca_cert_der(&read(&self.certificate)?, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.into();
        Ok(Identity { certificate, key: key.serialize_der().into(), expires })
    }
}

/// Whether proxies can read this.
pub(super) fn is_certificate(pem: &str) -> bool {
    read(pem).is_ok_and(|der| X509Certificate::from_der(&der).is_ok())
}

fn read(pem: &str) -> Result<CertificateDer<'static>, Unusable> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)
}

fn unreadable(error: impl ToString) -> Unusable {
    Unusable::Certificate(error.to_string())
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    params.not_before = at(from.saturating_sub(SKEW).unwrap_or(from));
    params.not_after = at(until);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
    }

    /// Days from the first, of the beginning and the end.
    fn validity(der: &[u8]) -> (i64, i64) {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let days = |time: i64| (time - day(0).as_second()) / 86_400;
        (days(parsed.validity().not_before.timestamp()), days(parsed.validity().not_after.timestamp()))
    }

    #[test]
    fn an_authority_lives_for_ten_years_and_what_it_signs_for_thirty_days_and_never_longer_than_itself() {
        let authority = Authority::generate(day(0)).unwrap();
        assert_eq!(validity(&read(authority.certificate()).unwrap()), (-1, 3650));
        assert_eq!(authority.expires(), day(3650));
        for (now, expected) in [(0, (-1, 30)), (3000, (2999, 3030)), (3640, (3639, 3650))] {
            let identity = authority.sign("evenkeel-system", day(now)).unwrap();
            assert_eq!(validity(&identity.certificate), expected, "signed on day {now}");
            assert_eq!(identity.expires, day(expected.1));
        }
    }

    #[test]
    fn what_was_damaged_is_no_authority() {
        let (one, other) = (Authority::generate(day(0)).unwrap(), Authority::generate(day(0)).unwrap());
        let parse = |certificate: &str, key: &str| Authority::parse(certificate.into(), key.into()).err();
        assert!(parse(one.certificate(), one.key()).is_none());
        assert!(matches!(parse(one.certificate(), other.key()), Some(Unusable::Mismatch)));
        assert!(matches!(parse("nothing", one.key()), Some(Unusable::Certificate(_))));
        assert!(matches!(parse(&one.certificate()[..200], one.key()), Some(Unusable::Certificate(_))));
        assert!(matches!(parse(one.certificate(), "nothing"), Some(Unusable::Key(_))));
    }
}
