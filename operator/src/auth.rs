//! Who a proxy is: a projected ServiceAccount token, bound to its pod, answers for it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;
use tonic::Status;

use crate::labels::LOAD_BALANCER;
use crate::object_key::ObjectKey;
use crate::world::World;

/// Audience of the tokens.
pub const AUDIENCE: &str = "evenkeel-operator";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer ones are no tokens of ours.
const TOKEN_LIMIT: usize = 16 * 1024;

/// A pod that was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Why a proxy is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call carries no token.
    #[error("no `authorization: bearer` token")]
    NoToken,
    /// The token is not accepted.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// The pod is not a proxy that is known (yet).
    #[error("pod {0} is not known as a proxy")]
    UnknownPod(String),
    /// The API server could not be asked.
    #[error("the token could not be checked: {0}")]
    Unavailable(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NoToken | Error::Refused(_) => Status::unauthenticated(message),
            Error::UnknownPod(_) | Error::Unavailable(_) => Status::unavailable(message),
        }
    }
}

/// Checks tokens.
#[tonic::async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// The pod that a token is bound to.
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Error>;
}

/// Checks tokens with the API server.
pub struct TokenReviewer {
    client: Client,
}

impl TokenReviewer {
    /// Asks with this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[tonic::async_trait]
impl Authenticate for TokenReviewer {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Error> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.into()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = timeout(REQUEST_TIMEOUT, api.create(&PostParams::default(), &review))
            .await
            .map_err(|_| Error::Unavailable("the API server did not answer in time".into()))?
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        identify(review.status.unwrap_or_default())
    }
}

/// The pod that the answer to a review names. A server that does not know audiences says nothing of them: then the token
/// may be meant for somebody else, and is refused.
fn identify(status: TokenReviewStatus) -> Result<PodIdentity, Error> {
    let TokenReviewStatus { audiences, authenticated, error, user } = status;
    if authenticated != Some(true) {
        return Err(Error::Refused(error.unwrap_or_else(|| "it is not valid".into())));
    }
    if !audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Error::Refused(format!("its audience is not {AUDIENCE}")));
    }
    let user = user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let namespace = username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next());
    let namespace = namespace.ok_or_else(|| Error::Refused("it is not a ServiceAccount's".into()))?;
    let extra = user.extra.unwrap_or_default();
    Ok(PodIdentity {
        namespace: namespace.to_owned(),
        name: only(&extra, POD_NAME)?,
        uid: only(&extra, POD_UID)?,
    })
}

fn only(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Result<String, Error> {
    let value = extra.get(key).and_then(|values| values.first());
    value.cloned().ok_or_else(|| Error::Refused("it is not bound to a pod".into()))
}

/// The token that a call carries.
pub fn bearer(metadata: &tonic::metadata::MetadataMap) -> Result<&str, Error> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok()).ok_or(Error::NoToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Error::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > TOKEN_LIMIT {
        return Err(Error::NoToken);
    }
    Ok(token)
}

/// The load balancer that a pod is a proxy of, as far as the cluster is known.
pub fn load_balancer(world: &World, pod: &PodIdentity) -> Result<ObjectKey, Error> {
    let unknown = || Error::UnknownPod(format!("{}/{}", pod.namespace, pod.name));
    let found = world.proxies.get(&ObjectRef::new(&pod.name).within(&pod.namespace)).ok_or_else(unknown)?;
    if found.metadata.uid.as_deref() != Some(&pod.uid) {
        return Err(unknown());
    }
    let name = found.labels().get(LOAD_BALANCER).ok_or_else(unknown)?;
    Ok(ObjectKey::new(&pod.namespace, name))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status() -> TokenReviewStatus {
        let extra = [(POD_NAME, "shop-proxy-0"), (POD_UID, "uid")];
        TokenReviewStatus {
            audiences: Some(vec![AUDIENCE.into()]),
            authenticated: Some(true),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:default:shop-proxy".into()),
                extra: Some(extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into()),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn a_bound_token_for_this_audience_names_its_pod() {
        let pod = identify(status()).unwrap();
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()),
            ("default", "shop-proxy-0", "uid")
        );
    }

    #[test]
    fn whatever_does_not_prove_which_pod_it_is_is_refused() {
        type Change = fn(&mut TokenReviewStatus);
        let table: [(&str, Change); 6] = [
            ("not authenticated", |status| status.authenticated = Some(false)),
            ("nothing said", |status| status.authenticated = None),
            ("another audience", |status| status.audiences = Some(vec!["https://kubernetes".into()])),
            ("no audience", |status| status.audiences = None),
            ("a person", |status| status.user.as_mut().unwrap().username = Some("admin".into())),
            ("not bound", |status| status.user.as_mut().unwrap().extra = None),
        ];
        for (case, change) in table {
            let mut status = status();
            change(&mut status);
            assert!(matches!(identify(status), Err(Error::Refused(_))), "{case}");
        }
    }

    #[test]
    fn only_bearer_tokens_of_sane_length_are_looked_at() {
        let with = |value: &str| {
            let mut metadata = tonic::metadata::MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            bearer(&metadata).map(str::to_owned).ok()
        };
        assert_eq!(with("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("abc"), None);
        assert_eq!(with(&format!("Bearer {}", "a".repeat(TOKEN_LIMIT + 1))), None);
    }
}
