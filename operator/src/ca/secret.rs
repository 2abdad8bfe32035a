//! The Secret in which the authorities are kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tracing::{info, warn};

use super::authority::is_certificate;
use super::rotation::Phase;
use super::{Authority, Error, NAME};
use crate::error::request;
use crate::labels;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";

/// What the Secret holds.
#[derive(Clone, PartialEq)]
pub struct Authorities {
    /// Signs. In `tls.crt` and `tls.key`.
    pub current: Authority,
    /// Is published, so that all proxies trust it before it signs. In `next.crt` and `next.key`.
    pub next: Option<Authority>,
    /// The certificate (PEM) of the one that signed before, whose key is gone. In `previous.crt`.
    pub previous: Option<String>,
}

impl Authorities {
    /// A single one, new.
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        Ok(Self { current: Authority::generate(now)?, next: None, previous: None })
    }

    /// What a Secret holds. A next or previous one that is of no use is none.
    pub fn read(secret: &Secret) -> Result<Self, Error> {
        let need = |key| text(secret, key).ok_or(Error::Incomplete(key));
        let current = Authority::parse(need(CERTIFICATE)?, need(KEY)?)?;
        let next = match (text(secret, NEXT_CERTIFICATE), text(secret, NEXT_KEY)) {
            (Some(certificate), Some(key)) => Authority::parse(certificate, key)
                .inspect_err(|error| warn!(%error, "the next authority in Secret {NAME} cannot be used"))
                .ok(),
            _ => None,
        };
        let previous = text(secret, PREVIOUS_CERTIFICATE).filter(|pem| is_certificate(pem));
        Ok(Self { current, next, previous })
    }

    /// Puts them into a Secret; what else is in it stays.
    pub fn write(&self, secret: &mut Secret) {
        let Self { current, next, previous } = self;
        let data = secret.data.get_or_insert_default();
        for (key, value) in [
            (CERTIFICATE, Some(current.certificate())),
            (KEY, Some(current.key())),
            (NEXT_CERTIFICATE, next.as_ref().map(Authority::certificate)),
            (NEXT_KEY, next.as_ref().map(Authority::key)),
            (PREVIOUS_CERTIFICATE, previous.as_deref()),
        ] {
            match value {
                Some(text) => drop(data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()))),
                None => drop(data.remove(key)),
            }
        }
    }

    /// What proxies are to trust, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(Authority::certificate);
        let all = [Some(self.current.certificate()), next, self.previous.as_deref()];
        all.into_iter().flatten().flat_map(|pem| [pem.trim_end(), "\n"]).collect()
    }

    /// The one that signs, now or next.
    pub fn newest(&self) -> &Authority {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// How far a rotation has come.
    pub fn phase(&self) -> Phase {
        match (&self.next, &self.previous) {
            (Some(_), _) => Phase::Published,
            (None, Some(_)) => Phase::Promoted,
            (None, None) => Phase::Settled,
        }
    }

    /// With a next one.
    pub(super) fn published(self, next: Authority) -> Self {
        Self { next: Some(next), ..self }
    }

    /// With the next one as the current one; as they are where there is no next one.
    pub(super) fn promoted(self) -> Self {
        let Self { current, next: Some(next), previous: _ } = self else { return self };
        Self { previous: Some(current.certificate().to_owned()), current: next, next: None }
    }

    /// Without the one that signed before.
    pub(super) fn retired(self) -> Self {
        Self { previous: None, ..self }
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

/// The Secret; if there is none, one with `authorities` is put there, unless somebody else is faster.
pub(super) async fn ensure(
    api: &Api<Secret>,
    authorities: impl FnOnce() -> Result<Authorities, Error>,
) -> Result<Secret, Error> {
    let read = || format!("read Secret {NAME}");
    if let Some(secret) = request(read, api.get_opt(NAME)).await? {
        return Ok(secret);
    }
    let mut secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), "evenkeel".to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        ..Secret::default()
    };
    authorities()?.write(&mut secret);
    match request(|| format!("create Secret {NAME}"), api.create(&PostParams::default(), &secret)).await {
        Ok(secret) => {
            info!(secret = NAME, "created the Secret with the certificate authority");
            Ok(secret)
        }
        Err(error) if error.is_conflict() => Ok(request(read, api.get(NAME)).await?),
        Err(error) => Err(error.into()),
    }
}

/// Writes the Secret, unless somebody else has since it was read.
pub(super) async fn replace(api: &Api<Secret>, secret: &Secret) -> Result<Option<Secret>, Error> {
    let params = PostParams::default();
    match request(|| format!("write Secret {NAME}"), api.replace(NAME, &params, secret)).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.is_conflict() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Authority {
        Authority::generate(Timestamp::UNIX_EPOCH).unwrap()
    }

    fn secret(authorities: &Authorities) -> Secret {
        let mut secret = Secret::default();
        authorities.write(&mut secret);
        secret
    }

    #[test]
    fn a_rotation_leads_from_one_authority_over_two_that_are_trusted_to_the_next_one() {
        let (old, new) = (new(), new());
        let settled = Authorities { current: old.clone(), next: None, previous: None };
        let published = settled.clone().published(new.clone());
        let promoted = published.clone().promoted();
        let retired = promoted.clone().retired();
        let [old_pem, new_pem] = [&old, &new].map(|authority| authority.certificate().to_owned());
        for (authorities, phase, signs, bundle) in [
            (settled, Phase::Settled, &old, old_pem.clone()),
            (published, Phase::Published, &old, old_pem.clone() + &new_pem),
            (promoted, Phase::Promoted, &new, new_pem.clone() + &old_pem),
            (retired, Phase::Settled, &new, new_pem),
        ] {
            assert_eq!(authorities.phase(), phase);
            assert!(authorities.current == *signs, "{phase:?}");
            assert_eq!(authorities.bundle(), bundle, "{phase:?}");
            assert!(Authorities::read(&secret(&authorities)).unwrap() == authorities, "{phase:?}");
        }
    }

    #[test]
    fn a_step_leaves_nothing_of_the_one_before_and_all_that_is_somebody_elses() {
        let published = Authorities { current: new(), next: Some(new()), previous: None };
        let mut secret = secret(&published);
        secret.data.as_mut().unwrap().insert("notes".into(), ByteString(b"mine".to_vec()));
        published.promoted().write(&mut secret);
        let keys: Vec<_> = secret.data.unwrap().into_keys().collect();
        assert_eq!(keys, ["notes", "previous.crt", "tls.crt", "tls.key"]);
    }

    #[test]
    fn what_is_missing_is_named_and_half_a_next_or_previous_one_is_none() {
        let whole = Authorities { current: new(), next: Some(new()), previous: None };
        for key in [CERTIFICATE, KEY] {
            let mut secret = secret(&whole);
            secret.data.as_mut().unwrap().remove(key);
            assert!(matches!(Authorities::read(&secret), Err(Error::Incomplete(missing)) if missing == key));
        }
        let mut halved = secret(&whole);
        halved.data.as_mut().unwrap().remove(NEXT_KEY);
        let mut garbage = secret(&whole);
        garbage.data.as_mut().unwrap().insert(NEXT_CERTIFICATE.into(), ByteString(b"no PEM".to_vec()));
        let mut past = secret(&Authorities { next: None, ..whole });
        past.data.as_mut().unwrap().insert(PREVIOUS_CERTIFICATE.into(), ByteString(b"no PEM".to_vec()));
        for secret in [halved, garbage, past] {
            let authorities = Authorities::read(&secret).unwrap();
            assert_eq!(authorities.phase(), Phase::Settled);
            assert_eq!(authorities.bundle(), authorities.current.certificate());
        }
    }
}
