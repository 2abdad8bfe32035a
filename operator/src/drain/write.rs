//! Writes the steps.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::situation::{Action, Replica};
use super::{DELETION_COST, LEAVES_FIRST};
use crate::labels::{LOAD_BALANCED, SCALE_MANAGER};
use crate::registry::ObjectKey;
use crate::replica_service::build;
use crate::targets::DRAINING;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// Takes a step with a pod. If the pod is another one by now, its UID makes this fail.
pub(super) async fn change_pod(
    client: &Client,
    key: &ObjectKey,
    pod: &Replica,
    action: &Action,
    time: Timestamp,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let annotations = match action {
        Action::Drain(_) => json!({DRAINING: time.to_string()}),
        Action::Mark(_) => json!({DELETION_COST: LEAVES_FIRST}),
        Action::Release(_) => json!({DRAINING: null, DELETION_COST: null}),
        Action::CloseGate(_) => return set_gate(&api, pod, SHUT, time).await,
        Action::OpenGate(_) => return set_gate(&api, pod, OPEN, time).await,
        Action::Scale(_) => return Ok(()),
    };
    let patch = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
    timeout(REQUEST_TIMEOUT, api.patch_metadata(&pod.name, &manager(), &Patch::Merge(patch))).await??;
    Ok(())
}

/// Status, reason and message of the gate's condition.
type Position = (&'static str, &'static str, &'static str);

const OPEN: Position = ("True", "Serving", "the load balancers let it serve, or none forwards to it");
const SHUT: Position = ("False", "Drained", "nothing is in flight there any more; it is removed next");

/// Other conditions belong to others: this one alone is merged into the list.
async fn set_gate(api: &Api<Pod>, pod: &Replica, position: Position, time: Timestamp) -> Result<(), Error> {
    let patch = Patch::Strategic(gate(pod, position, time));
    timeout(REQUEST_TIMEOUT, api.patch_status(&pod.name, &manager(), &patch)).await??;
    Ok(())
}

fn gate(pod: &Replica, (status, reason, message): Position, time: Timestamp) -> Value {
    let time = Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
    json!({
        "metadata": {"uid": pod.uid},
        "status": {"conditions": [{
            "type": LOAD_BALANCED,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": time,
        }]},
    })
}

/// Tells a Deployment how many replicas to run. That number belongs to its own field manager from the beginning. If the
/// Deployment is another one by now, its UID makes this fail.
pub(super) async fn scale(
    client: &Client,
    key: &ObjectKey,
    uid: Option<&str>,
    replicas: i32,
) -> Result<(), Error> {
    let patch = build::scale(key, uid, replicas);
    let api: Api<Deployment> = Api::namespaced(client.clone(), &key.namespace);
    let apply = PatchParams::apply(SCALE_MANAGER).force();
    timeout(REQUEST_TIMEOUT, api.patch(&key.name, &apply, &Patch::Apply(patch))).await??;
    Ok(())
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(SCALE_MANAGER.into()), ..PatchParams::default() }
}
