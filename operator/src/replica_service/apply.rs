//! Applies what was built. Client.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use serde_json::Value;
use tracing::warn;

use super::build;
use super::dereference::Found;
use super::rollout::{self, Record};
use super::validate::Valid;
use crate::apply::Applied;
use crate::context::Context;
use crate::error::Error;
use crate::labels::SCALE_MANAGER;

/// What became of the objects.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The replicas.
    pub deployment: Option<Arc<Deployment>>,
    /// Objects of ours that somebody else has under the same name.
    pub foreign: Vec<String>,
    /// What the API server said of the template.
    pub template_refused: Option<String>,
    /// What the API server said of other objects that it refused.
    pub refused: Vec<String>,
    /// When to look at the rollout again.
    pub again: Option<Duration>,
}

impl Outcome {
    /// Nothing was applied; what is there goes on.
    pub fn kept(found: &Found) -> Self {
        Self { deployment: found.deployment.clone(), ..Self::default() }
    }

    fn take<K>(&mut self, applied: Applied<K>) {
        match applied {
            Applied::Done(_) => {}
            Applied::Foreign(message) => self.foreign.push(message),
            Applied::Refused(status) => self.refused.push(status.message),
        }
    }

    fn take_replicas(&mut self, applied: Applied<Deployment>, found: &Found) {
        match applied {
            Applied::Done(deployment) => self.deployment = Some(deployment),
            Applied::Foreign(message) => self.foreign.push(message),
            Applied::Refused(status) => {
                self.deployment.clone_from(&found.deployment);
                self.template_refused = Some(status.message);
            }
        }
    }
}

/// Applies everything. The policy comes before the replicas: they are never open for a moment.
pub async fn apply(
    object: &ReplicaService,
    valid: &Valid,
    found: &Found,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let owner = object.controller_owner_ref(&()).unwrap_or_default();
    let (key, caches, applier) = (&valid.service.key, &context.caches, &context.applier);
    let mut outcome = Outcome::default();
    if valid.isolated {
        let policy = build::network_policy(valid, found, &owner);
        outcome.take(applier.apply(&owner, key, &caches.network_policies, &policy).await?);
    } else {
        applier.remove(&owner, key, &caches.network_policies).await?;
    }
    if found.budgets.iter().any(|other| build::competes(valid, other)) {
        applier.remove(&owner, key, &caches.disruption_budgets).await?;
    } else {
        let budget = build::disruption_budget(valid, &owner);
        outcome.take(applier.apply(&owner, key, &caches.disruption_budgets, &budget).await?);
    }
    let (record, again) = rollout::next(valid, found, now);
    outcome.again = again;
    if let Some(template) = template(valid, &record, context).await? {
        let wanted = build::deployment(valid, found, &owner, &record, template);
        outcome.take_replicas(deployment(valid, context, &owner, wanted).await?, found);
        if rollout::goes_back(found, &record) {
            context.metrics.rolled_back();
        }
    } else {
        // Somebody deleted the ReplicaSet: what runs goes on.
        outcome.deployment.clone_from(&found.deployment);
    }
    Ok(outcome)
}

/// The template that the replicas get: the one that is asked for, unless it has failed.
async fn template(valid: &Valid, record: &Record, context: &Context) -> Result<Option<Value>, Error> {
    let key = &valid.service.key;
    let Some(replica_set) = record.restored() else {
        context.templates.forget(key);
        return Ok(Some(build::template(valid, record.restarted_at.as_deref())));
    };
    let restored = context.templates.of(&context.client, key, replica_set).await?;
    if restored.is_none() {
        warn!(replica_service = %key, replica_set, "the ReplicaSet of the last good template is gone");
    }
    Ok(restored)
}

/// Tells snapshots and scaling of a valid service.
pub fn register(valid: &Valid, context: &Context) {
    let service = &valid.service;
    context.registry.write(|accepted| {
        let same = accepted.replica_services.get(&service.key).is_some_and(|present| **present == *service);
        if !same {
            accepted.replica_services.insert(service.key.clone(), Arc::new(service.clone()));
        }
        !same
    });
}

/// Applies the Deployment. The number of replicas belongs to the manager of scales from the very creation: a moment
/// without an owner, and it would fall to the default of one.
async fn deployment(
    valid: &Valid,
    context: &Context,
    owner: &OwnerReference,
    wanted: Value,
) -> Result<Applied<Deployment>, Error> {
    let (key, applier, store) = (&valid.service.key, &context.applier, &context.caches.deployments);
    match applier.find(owner, key, store).await? {
        Err(foreign) => return Ok(Applied::Foreign(foreign)),
        Ok(Some(_)) => {}
        Ok(None) => {
            let service = &valid.service;
            let replicas = service.desired.unwrap_or(service.min).clamp(service.min, service.max);
            let created = build::with_replicas(wanted.clone(), replicas);
            let created = applier.write(key, SCALE_MANAGER, &created).await?;
            if let Applied::Refused(_) | Applied::Foreign(_) = created {
                return Ok(created);
            }
        }
    }
    applier.apply(owner, key, store, &wanted).await
}
