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
use crate::object_key::ObjectKey;
use crate::replica_service::build;
use crate::targets::{DRAINING, merged_condition};

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
        Action::CloseGate(_) => return set_gate(&api, pod, shut(time)).await,
        Action::OpenGate(_) => return set_gate(&api, pod, open(time)).await,
        Action::Scale(_) => return Ok(()),
    };
    let patch = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
    timeout(REQUEST_TIMEOUT, api.patch_metadata(&pod.name, &manager(), &Patch::Merge(patch))).await??;
    Ok(())
}

/// Other conditions belong to others: these alone are merged into the list.
async fn set_gate(api: &Api<Pod>, pod: &Replica, conditions: Vec<Value>) -> Result<(), Error> {
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": conditions}});
    timeout(REQUEST_TIMEOUT, api.patch_status(&pod.name, &manager(), &Patch::Strategic(patch))).await??;
    Ok(())
}

fn open(time: Timestamp) -> Vec<Value> {
    vec![merged_condition(
        LOAD_BALANCED,
        "True",
        "Serving",
        "the load balancers let it serve, or none forwards to it",
        time,
    )]
}

/// A kubelet that sees the gate shut makes the pod unready, after a second or two: it waits for its next look at all
/// containers. That is not waited for. Reason and message are its own (src: `GeneratePodReadyCondition` in
/// `pkg/kubelet/status/generate.go`): it finds nothing to change.
fn shut(time: Timestamp) -> Vec<Value> {
    let unready = format!("the status of pod readiness gate \"{LOAD_BALANCED}\" is not \"True\", but False");
    vec![
        merged_condition(
            LOAD_BALANCED,
            "False",
            "Drained",
            "nothing is in flight there any more; it is removed next",
            time,
        ),
        merged_condition("Ready", "False", "ReadinessGatesNotReady", &unready, time),
    ]
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
