//! Writes the wanted number, and tells of it.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;
use tracing::{info, warn};

use super::decisions::{DecisionView, Decisions};
use super::{Autoscaler, Metrics};
use crate::events::Events;
use crate::labels::SCALE_MANAGER;
use crate::object_key::ObjectKey;
use crate::registry::ValidReplicaService;
use crate::scale::Decision;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the wanted number, and tells of it.
pub(super) struct Writer {
    client: Client,
    events: Arc<Events>,
    decisions: Arc<Decisions>,
    metrics: Metrics,
}

/// Why the number was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("writing the number of replicas failed: {0}")]
    Api(#[from] kube::Error),
    #[error("writing the number of replicas failed: the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("somebody set the number of replicas at the same time; it is decided anew")]
    Changed,
}

impl Writer {
    pub(super) fn new(autoscaler: &Autoscaler) -> Self {
        Self {
            client: autoscaler.client.clone(),
            events: autoscaler.events.clone(),
            decisions: autoscaler.decisions.clone(),
            metrics: autoscaler.metrics.clone(),
        }
    }

    /// Shows what was decided.
    pub(super) fn show(&self, key: &ObjectKey, view: DecisionView) {
        self.decisions.set(key, view);
    }

    /// Writes `decision.replicas`, if the number still is `from`.
    pub(super) async fn write(
        &self,
        valid: &ValidReplicaService,
        from: Option<i32>,
        decision: &Decision,
    ) -> Result<(), Error> {
        let to = decision.replicas;
        let written = match from {
            Some(from) => self.rescale(&valid.key, from, to).await,
            None => self.initialize(&valid.key, to).await,
        };
        let Decision { reason, message, .. } = decision;
        match &written {
            Ok(()) => {
                info!(replica_service = %valid.key, ?from, to, reason, message, "scaled");
                self.metrics.decided(from.unwrap_or(to), to);
                if let Some(from) = from {
                    let note = format!("from {from} to {to}: {message}");
                    self.events.tell(valid, false, "SuccessfulRescale", note).await;
                }
            }
            Err(error) => {
                warn!(replica_service = %valid.key, ?from, to, %error, "not scaled; it is tried again");
                self.metrics.failed();
            }
        }
        written
    }

    async fn rescale(&self, key: &ObjectKey, from: i32, to: i32) -> Result<(), Error> {
        let api = self.api(key);
        let scale = timeout(REQUEST_TIMEOUT, api.get_scale(&key.name)).await??;
        if scale.spec.and_then(|spec| spec.replicas) != Some(from) {
            return Err(Error::Changed);
        }
        let version = scale.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": to}});
        timeout(REQUEST_TIMEOUT, api.patch_scale(&key.name, &manager(), &Patch::Merge(patch))).await??;
        Ok(())
    }

    /// The scale subresource does not work before there is a number.
    async fn initialize(&self, key: &ObjectKey, to: i32) -> Result<(), Error> {
        let patch = json!({"spec": {"scaling": {"desired": to}}});
        timeout(REQUEST_TIMEOUT, self.api(key).patch(&key.name, &manager(), &Patch::Merge(patch))).await??;
        Ok(())
    }

    fn api(&self, key: &ObjectKey) -> Api<ReplicaService> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(SCALE_MANAGER.into()), ..PatchParams::default() }
}
