//! Applies what was built. Client.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use tracing::warn;

use super::build;
use super::dereference::Found;
use super::rollout::{self, Record};
use super::validate::Valid;
use crate::apply::{Applied, Applier};
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
    /// PodDisruptionBudgets of others that select the replicas: ours has made way for them.
    pub other_budgets: Vec<String>,
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
    let others = found.budgets.iter().filter(|other| build::competes(valid, other));
    outcome.other_budgets = others.map(|other| other.name_any()).collect();
    if outcome.other_budgets.is_empty() {
        let budget = build::disruption_budget(valid, &owner);
        outcome.take(applier.apply(&owner, key, &caches.disruption_budgets, &budget).await?);
    } else {
        applier.remove(&owner, key, &caches.disruption_budgets).await?;
    }
    let (record, again) = rollout::next(valid, found, now);
    outcome.again = again;
    if let Some(template) = template(valid, &record, context).await? {
        let wanted = build::deployment(valid, found, &owner, &record, template);
        let there = Deployments { applier, store: &caches.deployments, owner: &owner };
        outcome.take_replicas(there.apply(valid, wanted).await?, found);
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

/// Where Deployments of one ReplicaService go.
struct Deployments<'a> {
    applier: &'a Applier,
    store: &'a Store<Deployment>,
    owner: &'a OwnerReference,
}

impl Deployments<'_> {
    /// Applies the Deployment. The number of replicas belongs to the manager of scales from the very creation: a moment
    /// without an owner, and it would fall to the default of one. All else that it created is given up at once, or it
    /// would stay when it is not wanted any more.
    async fn apply(&self, valid: &Valid, wanted: Value) -> Result<Applied<Deployment>, Error> {
        let Self { applier, store, owner } = self;
        let (key, service) = (&valid.service.key, &valid.service);
        match applier.find(owner, key, store).await? {
            Err(foreign) => Ok(Applied::Foreign(foreign)),
            Ok(Some(_)) => applier.apply(owner, key, store, &wanted).await,
            Ok(None) => {
                let replicas = service.desired.unwrap_or(service.min).clamp(service.min, service.max);
                let created = build::with_replicas(wanted.clone(), replicas);
                let created = applier.write(key, SCALE_MANAGER, &created).await?;
                let Applied::Done(deployment) = &created else { return Ok(created) };
                let scale = build::scale(key, deployment.metadata.uid.as_deref(), replicas);
                let applied = applier.apply(owner, key, store, &wanted).await?;
                applier.write::<Deployment>(key, SCALE_MANAGER, &scale).await?;
                Ok(applied)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;
    use crate::fake;
    use crate::metrics::Metrics;
    use crate::replica_service::build::tests::valid;
    use crate::tests::owner;

    #[tokio::test]
    async fn of_a_deployment_that_is_created_the_manager_of_scales_keeps_the_number_alone() {
        let (client, log) = fake::client(|asked| match asked.what.split(' ').next() {
            Some("PATCH") => {
                let mut deployment = asked.body.clone();
                deployment["metadata"]["uid"] = "d".into();
                deployment["metadata"]["ownerReferences"] = json!([owner("ReplicaService", "api")]);
                (200, deployment)
            }
            _ => fake::refusal(404, "NotFound", "not found"),
        });
        let applier = Applier::new(client, Metrics::register(&mut Registry::default()));
        let (store, _writer) = reflector::store::<Deployment>();
        let owner = owner("ReplicaService", "api");
        let there = Deployments { applier: &applier, store: &store, owner: &owner };
        let wanted = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "api", "namespace": "default"},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"a": "b"}}}},
        });
        let valid = valid(&json!({"spec": {"containers": [{"name": "web"}]}}));
        assert!(matches!(there.apply(&valid, wanted.clone()).await, Ok(Applied::Done(_))));
        let log = log.lock();
        let writes: Vec<_> = log.iter().filter(|asked| asked.what.starts_with("PATCH")).collect();
        let managers: Vec<bool> =
            writes.iter().map(|asked| asked.query.contains("fieldManager=evenkeel-scale")).collect();
        assert_eq!(managers, [true, false, true]);
        assert_eq!(writes[0].body, build::with_replicas(wanted.clone(), 2));
        assert_eq!(writes[1].body, wanted);
        assert_eq!(writes[2].body["spec"], json!({"replicas": 2}));
        assert_eq!(writes[2].body["metadata"]["uid"], "d");
    }
}
