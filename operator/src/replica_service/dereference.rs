//! Reads what is around a ReplicaService. From the caches alone. No client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use evenkeel_proxy_api::report::Health;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use crate::apply::is_owned;
use crate::autoscaler::DecisionView;
use crate::context::Context;
use crate::labels::{LOAD_BALANCED, LOAD_BALANCER};
use crate::object_key::{ObjectKey, key};
use crate::registry::{Accepted, TargetSource, ValidTargetGroup};
use crate::revision::{current_replica_set, replica_set_of};
use crate::targets::condition;
use crate::world::has_ended;

/// What there is around a ReplicaService.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Load balancers that forward here.
    pub balancers: BTreeSet<String>,
    /// Load balancers whose proxies may still send here, although they do not forward here any more.
    pub former_balancers: BTreeSet<String>,
    /// The longest of the target groups that balancers forward to; absent where there is none.
    pub deregistration_delay: Option<Duration>,
    /// Requests in flight at all replicas, where every replica is known to a proxy.
    pub in_flight: Option<u64>,
    /// Replicas that pass the checks of a target group.
    pub healthy: i32,
    /// Replicas of the current template that never passed.
    pub failing: Vec<Failing>,
    /// The replicas.
    pub deployment: Option<Arc<Deployment>>,
    /// One for each template that they had.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// PodDisruptionBudgets of this namespace that are not ours.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Names of HorizontalPodAutoscalers that scale the same.
    pub autoscalers: Vec<String>,
    /// The latest decision.
    pub decision: Option<DecisionView>,
}

/// A replica that proxies check and that never passed, so that Kubernetes does not count it as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The target group whose check it does not pass.
    pub group: String,
    /// Why, in a sentence.
    pub why: String,
}

/// Looks around.
pub fn dereference(object: &ReplicaService, context: &Context) -> Found {
    let key = key(object);
    let caches = &context.caches;
    let (groups, balancers) = context.registry.read(|accepted| forwarding(accepted, &key));
    let (healthy, in_flight) = traffic(&groups, context);
    let owner = object.controller_owner_ref(&()).unwrap_or_default();
    let budgets = caches.disruption_budgets.state().into_iter();
    let policy = caches.network_policies.get(&ObjectRef::new(&key.name).within(&key.namespace));
    let former = policy.map(|policy| peers(&policy)).unwrap_or_default();
    let deployment = caches.deployments.get(&ObjectRef::new(&key.name).within(&key.namespace));
    let world = &context.plane.world;
    Found {
        former_balancers: former
            .into_iter()
            .filter(|name| !balancers.contains(name) && context.is_behind(&key.sibling(name.clone())))
            .collect(),
        balancers,
        deregistration_delay: groups.iter().map(|group| group.deregistration_delay).max(),
        in_flight,
        healthy,
        failing: failing(&key, &groups, context),
        replica_sets: deployment.iter().flat_map(|deployment| world.replica_sets_of(deployment)).collect(),
        deployment,
        budgets: budgets
            .filter(|budget| {
                budget.namespace().as_ref() == Some(&key.namespace) && !is_owned(&**budget, &owner)
            })
            .collect(),
        autoscalers: caches
            .autoscalers
            .state()
            .iter()
            .filter(|other| scales(other, &key))
            .map(|other| other.name_any())
            .collect(),
        decision: context.plane.decisions.get(&key),
    }
}

/// The target groups that take their targets from here and that somebody forwards to, and who does.
fn forwarding(accepted: &Accepted, key: &ObjectKey) -> (Vec<Arc<ValidTargetGroup>>, BTreeSet<String>) {
    let takes = |group: &ValidTargetGroup| {
        group.key.namespace == key.namespace
            && matches!(&group.source, TargetSource::ReplicaService { name, .. } if *name == key.name)
    };
    let mut used = Vec::new();
    let mut balancers = BTreeSet::new();
    for group in accepted.target_groups.values().filter(|group| takes(group)) {
        let names: Vec<String> = accepted
            .load_balancers
            .values()
            .filter(|balancer| balancer.key.namespace == key.namespace)
            .filter(|balancer| balancer.target_groups().any(|name| name == group.key.name))
            .map(|balancer| balancer.key.name.clone())
            .collect();
        if !names.is_empty() {
            used.push(group.clone());
            balancers.extend(names);
        }
    }
    (used, balancers)
}

/// Replicas that pass the checks, and what is in flight at all of them.
fn traffic(groups: &[Arc<ValidTargetGroup>], context: &Context) -> (i32, Option<u64>) {
    let now = Instant::now();
    let mut healthy = BTreeSet::new();
    let mut in_flight = Some(0);
    for group in groups {
        let views = context.plane.reports.targets(&group.key, now);
        for target in context.plane.targets.of(&group.key).iter() {
            let view = views.get(&target.id);
            in_flight = in_flight.zip(view).map(|(sum, view)| sum + view.in_flight);
            if view.is_some_and(|view| view.health == Health::Healthy) && target.drain.is_none() {
                healthy.insert(target.id.clone());
            }
        }
    }
    (i32::try_from(healthy.len()).unwrap_or(i32::MAX), in_flight)
}

/// Replicas of the current template that proxies find unhealthy and whose gate was never open.
fn failing(key: &ObjectKey, groups: &[Arc<ValidTargetGroup>], context: &Context) -> Vec<Failing> {
    let world = &context.plane.world;
    let Some(deployment) = world.deployment_of(key) else { return Vec::new() };
    let sets = world.replica_sets_of(&deployment);
    let Some(current) = current_replica_set(&deployment, &sets) else { return Vec::new() };
    let is_new = |pod: &Pod| {
        replica_set_of(pod) == Some(current) && condition(pod, LOAD_BALANCED).is_none() && !has_ended(pod)
    };
    let pods = world.replicas_of(key);
    let new: Vec<&str> =
        pods.iter().filter(|pod| is_new(pod)).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    let mut failing = Vec::new();
    for group in groups.iter().filter(|_| !new.is_empty()) {
        let views = context.plane.reports.targets(&group.key, Instant::now());
        let views = new.iter().filter_map(|uid| views.get(*uid));
        failing.extend(views.filter(|view| view.health == Health::Unhealthy).map(|view| Failing {
            group: group.key.name.clone(),
            why: format!("{}: {}", view.reason, view.description),
        }));
    }
    failing
}

/// Names of the load balancers that a policy lets in.
fn peers(policy: &NetworkPolicy) -> BTreeSet<String> {
    let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten());
    let selectors =
        rules.flat_map(|rule| rule.from.iter().flatten()).filter_map(|peer| peer.pod_selector.as_ref());
    let expressions = selectors.flat_map(|selector| selector.match_expressions.iter().flatten());
    let ours = expressions.filter(|expression| expression.key == LOAD_BALANCER);
    ours.flat_map(|expression| expression.values.iter().flatten().cloned()).collect()
}

fn scales(other: &HorizontalPodAutoscaler, key: &ObjectKey) -> bool {
    let target = other.spec.as_ref().map(|spec| &spec.scale_target_ref);
    other.namespace().as_ref() == Some(&key.namespace)
        && target.is_some_and(|target| {
            target.name == key.name && matches!(target.kind.as_str(), "Deployment" | "ReplicaService")
        })
}
