//! The certificate authority with which the operator shows proxies who it is.
//!
//! Its key and certificate are in the Secret `evenkeel-ca` in the operator's namespace, created by whoever is first and
//! never overwritten. Proxies trust the bundle in the ConfigMap `evenkeel-ca` of their namespace. Each term signs a
//! serving certificate of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::registry::Registry;

/// Name of the Secret and of the ConfigMaps.
pub const NAME: &str = "evenkeel-ca";
/// Key of the bundle in the ConfigMaps.
pub const BUNDLE: &str = "ca.crt";
/// Name of the Service that proxies dial.
pub const PUSH_SERVICE: &str = "evenkeel-operator-push";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const COMMON_NAME: &str = "evenkeel operator CA";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Bundles that somebody removed are there again after so long.
const BUNDLE_CHECK: Duration = Duration::from_secs(300);
const CA_YEARS: i32 = 10;

/// A certificate authority.
pub struct Authority {
    certificate: String,
    key: String,
}

/// What the push server shows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: String,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or failed.
    #[error("Secret {NAME}: {0}")]
    Api(#[from] kube::Error),
    /// The API server did not answer.
    #[error("Secret {NAME}: the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// Somebody changed the Secret.
    #[error("Secret {NAME} has no {0}: delete it, so that another is made; then restart all proxies")]
    Incomplete(&'static str),
    /// Somebody changed the Secret, or the machine has no randomness.
    #[error(
        "Secret {NAME} cannot be used: {0}; delete it, so that another is made; then restart all proxies"
    )]
    Certificate(#[from] rcgen::Error),
}

impl Authority {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The one in the namespace's Secret; if there is none, a new one is put there, unless somebody else is faster.
    pub async fn ensure(client: &Client, namespace: &str) -> Result<Self, Error> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        if let Some(secret) = timeout(REQUEST_TIMEOUT, api.get_opt(NAME)).await?? {
            return Self::read(secret);
        }
        let authority = Self::generate()?;
        match timeout(REQUEST_TIMEOUT, api.create(&PostParams::default(), &authority.secret())).await? {
            Ok(_) => {
                info!(secret = NAME, namespace, "created the certificate authority");
                Ok(authority)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                Self::read(timeout(REQUEST_TIMEOUT, api.get(NAME)).await??)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(secret: Secret) -> Result<Self, Error> {
        let mut data = secret.data.unwrap_or_default();
        let mut take = |key| {
            let text = data.remove(key).and_then(|bytes| String::from_utf8(bytes.0).ok());
            text.ok_or(Error::Incomplete(key))
        };
        Ok(Self { certificate: take(CERTIFICATE)?, key: take(KEY)? })
    }

    fn secret(&self) -> Secret {
        let data = [(CERTIFICATE, &self.certificate), (KEY, &self.key)];
        Secret {
            metadata: ObjectMeta { name: Some(NAME.into()), labels: Some(labels()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(
                data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).into(),
            ),
            ..Secret::default()
        }
    }

    /// What proxies trust, PEM.
    pub fn bundle(&self) -> &str {
        &self.certificate
    }

    /// A serving certificate for the Service that proxies dial in `namespace`.
    pub fn sign(&self, namespace: &str) -> Result<Identity, Error> {
        let service = format!("{PUSH_SERVICE}.{namespace}.svc");
        let names = [PUSH_SERVICE.to_owned(), format!("{service}.cluster.local"), service];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "evenkeel operator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The same for each authority: an issuer is its name and its key.
fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let year = jiff::Zoned::now().year();
    params.not_before = rcgen::date_time_ymd(i32::from(year) - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(i32::from(year) + CA_YEARS, 1, 1);
    Ok(params)
}

fn labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/managed-by".to_owned(), "evenkeel".to_owned())].into()
}

/// Keeps the bundle in each namespace with a load balancer.
pub async fn publish(client: Client, registry: std::sync::Arc<Registry>, bundle: String) -> &'static str {
    let mut accepts = registry.changes();
    let mut check = interval(BUNDLE_CHECK);
    let mut published = BTreeSet::new();
    loop {
        let namespaces: BTreeSet<String> = registry
            .read(|accepted| accepted.load_balancers.keys().map(|key| key.namespace.clone()).collect());
        published.retain(|namespace| namespaces.contains(namespace));
        for namespace in namespaces {
            if published.contains(&namespace) {
                continue;
            }
            match publish_in(&client, &namespace, &bundle).await {
                Ok(()) => {
                    published.insert(namespace);
                }
                Err(error) => warn!(
                    namespace, %error,
                    "ConfigMap {NAME} could not be written; new proxies there do not start; it is tried again"
                ),
            }
        }
        let retry = registry
            .read(|accepted| accepted.load_balancers.keys().any(|key| !published.contains(&key.namespace)));
        tokio::select! {
            changed = accepts.changed() => if changed.is_err() { return "CA bundles" },
            _ = check.tick() => published.clear(),
            () = tokio::time::sleep(REQUEST_TIMEOUT), if retry => {}
        }
    }
}

async fn publish_in(client: &Client, namespace: &str, bundle: &str) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<String, String> = [(BUNDLE.to_owned(), bundle.to_owned())].into();
    let there = timeout(REQUEST_TIMEOUT, api.get_opt(NAME)).await??;
    if there.is_some_and(|map| map.data.as_ref() == Some(&data)) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), labels: Some(labels()), ..ObjectMeta::default() },
        data: Some(data),
        ..ConfigMap::default()
    };
    let apply = PatchParams::apply("evenkeel").force();
    timeout(REQUEST_TIMEOUT, api.patch(NAME, &apply, &Patch::Apply(&map))).await??;
    info!(namespace, "published the certificate authority");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_its_secret_and_a_damaged_one_is_named() {
        let authority = Authority::generate().unwrap();
        let read = Authority::read(authority.secret()).unwrap();
        assert_eq!(read.bundle(), authority.bundle());
        assert!(read.sign("evenkeel-system").unwrap().certificate.contains("BEGIN CERTIFICATE"));
        let mut secret = authority.secret();
        secret.data.as_mut().unwrap().remove(KEY);
        assert!(matches!(Authority::read(secret), Err(Error::Incomplete(KEY))));
    }
}
