//! Answers the API server.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use kube::core::response::StatusSummary;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Answer, Holds, Metrics, PATH, answer};
use crate::drain::forwards;
use crate::labels::{EVICTION, REPLICA_SERVICE, SCALE_MANAGER};
use crate::object_key::ObjectKey;
use crate::push::{Door, Serving};
use crate::registry::Registry;
use crate::world::World;

/// The API server waits a little longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Who answers.
pub struct Warden {
    /// How to reach the API server.
    pub client: Client,
    /// The replicas.
    pub world: Arc<World>,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// For how long who asks has been held.
    pub holds: Holds,
    /// Counters.
    pub metrics: Metrics,
    /// Cancelled when nothing must be written or answered any more.
    pub stop: CancellationToken,
}

type Review = AdmissionReview<DynamicObject>;
type Request = AdmissionRequest<DynamicObject>;

/// Answers on `listener` for as long as this operator leads, once it knows all replicas.
pub async fn serve(listener: TcpListener, serving: Arc<Serving>, warden: Warden) -> &'static str {
    const NAME: &str = "eviction webhook";
    warden.registry.complete().await;
    if warden.world.ready().await.is_err() {
        return NAME;
    }
    let door = match Door::new(listener, serving, b"http/1.1") {
        Ok(door) => door,
        Err(error) => {
            error!(%error, "evictions cannot be answered over TLS");
            return NAME;
        }
    };
    // Connections that the API server keeps end with this term.
    let stop = warden.stop.child_token();
    let warden = Warden { stop: stop.clone(), ..warden };
    let ended = stop.clone().cancelled_owned();
    let _end_connections = stop.drop_guard();
    if let Err(error) = axum::serve(door, routes(Arc::new(warden))).with_graceful_shutdown(ended).await {
        error!(%error, "the eviction webhook failed");
    }
    NAME
}

fn routes(warden: Arc<Warden>) -> Router {
    Router::new().route(PATH, post(evict)).with_state(warden)
}

async fn evict(
    State(warden): State<Arc<Warden>>,
    Json(review): Json<Review>,
) -> Result<Json<Review>, StatusCode> {
    if warden.stop.is_cancelled() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let request: Request = review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut response = AdmissionResponse::from(&request);
    if let Some(sentence) = warden.answer(&request, Instant::now(), Timestamp::now()).await {
        response.allowed = false;
        // What `kubectl drain` and everyone else who evicts takes for "try again".
        response.result.status = Some(StatusSummary::Failure);
        response.result.code = StatusCode::TOO_MANY_REQUESTS.as_u16();
        response.result.reason = "TooManyRequests".into();
        response.result.message = sentence;
    }
    Ok(Json(response.into_review()))
}

impl Warden {
    /// Why whoever asks has to wait; none where it has not.
    async fn answer(&self, request: &Request, now: Instant, time: Timestamp) -> Option<String> {
        let pod = ObjectKey::new(request.namespace.as_deref()?, &request.name);
        let (replica, service, drain) = self.replica(&pod)?;
        let answer = answer(&replica, drain, self.holds.known_for(&replica, now));
        debug!(%pod, ?answer, request.dry_run, "an eviction is asked for");
        let sentence = answer.wait();
        let sentence = sentence
            .map(|why| format!("{} is a replica of ReplicaService {}: {why}", pod.name, service.name));
        if request.dry_run {
            return sentence;
        }
        self.metrics.answered(answer);
        match answer {
            Answer::Note => {
                self.holds.keep(&self.world.replicas.state());
                self.note(&pod, &replica, time).await;
            }
            Answer::GiveUp => {
                warn!(%pod, replica_service = %service, "evicted before it could be drained: nothing serves in its place");
            }
            Answer::Allow | Answer::Replace | Answer::Drain | Answer::Remove => {}
        }
        sentence
    }

    /// The replica of that name, if it is one that this operator drains; whose it is, and how long its drain may take.
    fn replica(&self, pod: &ObjectKey) -> Option<(Arc<Pod>, ObjectKey, Duration)> {
        let replica = self.world.replica(pod)?;
        let service = pod.sibling(replica.labels().get(REPLICA_SERVICE)?);
        let uid = replica.metadata.uid.as_ref()?;
        let ours = self.world.replicas_of(&service);
        ours.iter().find(|ours| ours.metadata.uid.as_ref() == Some(uid))?;
        let drain = self.registry.read(|accepted| {
            accepted.replica_services.get(&service)?;
            let delays = forwards(&service, accepted).into_iter().map(|(_, _, delay)| delay);
            Some(delays.max().unwrap_or_default())
        })?;
        Some((replica, service, drain))
    }

    /// Notes the wish on the pod: from there everything goes on, whoever leads. If that fails, it is asked for again.
    async fn note(&self, key: &ObjectKey, pod: &Pod, time: Timestamp) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let metadata = json!({"uid": pod.metadata.uid, "annotations": {EVICTION: time.to_string()}});
        let params = PatchParams { field_manager: Some(SCALE_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match timeout(REQUEST_TIMEOUT, api.patch_metadata(&key.name, &params, &patch)).await {
            Ok(Ok(_)) => info!(pod = %key, "its eviction is asked for: it is replaced and drained first"),
            Ok(Err(error)) => warn!(pod = %key, %error, "that its eviction is asked for could not be noted"),
            Err(_) => warn!(pod = %key, "that its eviction is asked for could not be noted in time"),
        }
    }
}

#[cfg(test)]
mod tests;
