//! One template replaces another, and nobody notices.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{ReplicaService, Rollback};
use evenkeel_tests::cluster::{Namespace, with_namespace};
use evenkeel_tests::conditions::{Conditioned as _, eventually, until};
use evenkeel_tests::fixtures::web;
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

const REPLICAS: i32 = 3;

/// The replicas, with a variable in their environment.
fn replicas(ns: &Namespace, name: &str, value: &str) -> Result<ReplicaService> {
    let mut service = web(&ns.environment.demo_app_image)?;
    (service.spec.scaling.min, service.spec.scaling.max) = (REPLICAS, 6);
    let environment = service.spec.template.pointer_mut("/spec/containers/0/env");
    let environment = environment.and_then(|list| list.as_array_mut()).context("an environment")?;
    environment.push(json!({"name": name, "value": value}));
    Ok(service)
}

/// Waits until all replicas are ready and of the template in which the variable has that value; none where it is absent.
/// They come one by one, each in its time.
async fn until_rolled_out(ns: &Namespace, name: &str, value: Option<&str>) -> Result<()> {
    let deployments: Api<Deployment> = ns.api();
    for updated in 1..=REPLICAS {
        until(&deployments, "web", &format!("with {updated} replicas with {name} {value:?}"), |deployment| {
            let status = deployment.status.as_ref();
            has(deployment, name, value)
                && status.is_some_and(|status| status.updated_replicas >= Some(updated))
        })
        .await?;
    }
    until(&deployments, "web", &format!("rolled out with {name} {value:?}"), |deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
        has(deployment, name, value) && counts == [Some(REPLICAS); 3]
    })
    .await
    .map(drop)
}

/// Whether the Deployment's status speaks of a template in which the variable has that value.
fn has(deployment: &Deployment, name: &str, value: Option<&str>) -> bool {
    let containers = deployment.spec.iter().filter_map(|spec| spec.template.spec.as_ref());
    let mut variables = containers.flat_map(|spec| &spec.containers).flat_map(|c| c.env.iter().flatten());
    let found = variables.find(|variable| variable.name == name);
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    found.and_then(|variable| variable.value.as_deref()) == value
        && observed >= deployment.metadata.generation
}

/// Replicas' pods as they were when they were first seen to be deleted, by name; watched until dropped.
pub(crate) struct Departures {
    pods: Arc<Mutex<BTreeMap<String, Pod>>>,
    _watch: AbortOnDropHandle<()>,
}

impl Departures {
    pub(crate) fn watch(ns: &Namespace) -> Self {
        let seen = Arc::<Mutex<BTreeMap<String, Pod>>>::default();
        let (pods, departed) = (ns.api::<Pod>(), seen.clone());
        let watch = tokio::spawn(async move {
            let config = watcher::Config::default().labels("evenkeel.dev/replica-service=web");
            let mut pods = pin!(watcher(pods, config).default_backoff().touched_objects());
            while let Some(pod) = pods.next().await {
                let Ok(pod) = pod else { continue };
                if pod.metadata.deletion_timestamp.is_some() {
                    let mut departed = departed.lock().unwrap_or_else(PoisonError::into_inner);
                    departed.entry(pod.name_any()).or_insert(pod);
                }
            }
        });
        Self { pods: seen, _watch: AbortOnDropHandle::new(watch) }
    }

    /// Fails unless so many pods were deleted, each of them after it was drained.
    pub(crate) fn were_drained(&self, count: usize) -> Result<()> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(pods.len() == count, "{} pods were deleted: {:?}", pods.len(), pods.keys());
        for (name, pod) in pods.iter() {
            let gate = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let gate = gate.into_iter().find(|condition| condition.type_ == "evenkeel.dev/load-balanced");
            let annotations = pod.annotations();
            let drained = annotations.contains_key("evenkeel.dev/draining")
                && annotations.contains_key("controller.kubernetes.io/pod-deletion-cost");
            ensure!(drained, "{name} was deleted without having been drained: {annotations:?}");
            ensure!(gate.is_some_and(|gate| gate.status == "False"), "{name} was deleted with its gate open");
        }
        Ok(())
    }
}

/// Waits until every replica that left is named in one event for each step, in that order.
async fn each_step_was_told(ns: &Namespace) -> Result<()> {
    const STEPS: [&str; 4] = ["DrainBegun", "DrainAcknowledged", "Drained", "ReplicaRemoved"];
    eventually("an event for each step", async || {
        let mut events = ns.api::<Event>().list(&ListParams::default()).await?.items;
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events {
            let reason = event.reason.unwrap_or_default();
            let note = event.note.unwrap_or_default();
            let names = note.split_once(':').map_or("", |(names, _)| names);
            for name in names.split(", ").filter(|_| STEPS.contains(&reason.as_str())) {
                told.entry(name.to_owned()).or_default().push(reason.clone());
            }
        }
        ensure!(told.len() == REPLICAS as usize && told.values().all(|steps| steps == &STEPS), "{told:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_rollout_under_load_drains_each_old_replica_and_loses_nothing() -> Result<()> {
    with_namespace("rollout", async |ns| {
        let port = ns.serve_web(REPLICAS).await?;
        until_rolled_out(ns, "APP_VERSION", None).await?;
        let quick = port.load(Pace::Rate(50));
        let slow = Client::http1(port.url("/slow?s=3"));
        let slow = Load::start(&slow, Pace::Connections(6), Recorder::default());
        slow.further(6).await?;
        let departures = Departures::watch(ns);

        ns.apply(&replicas(ns, "APP_VERSION", "2")?).await?;
        until_rolled_out(ns, "APP_VERSION", Some("2")).await?;
        quick.further(50).await?;
        let tally = quick.succeeded().await?;
        ensure!(tally.by_replica.len() == 2 * REPLICAS as usize, "not everyone answered: {tally}");
        slow.succeeded().await?;
        departures.were_drained(REPLICAS as usize)?;
        each_step_was_told(ns).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn replicas_that_never_pass_stop_their_rollout_and_the_old_ones_serve() -> Result<()> {
    with_namespace("stuck", async |ns| {
        let port = ns.serve_web(REPLICAS).await?;
        until_rolled_out(ns, "LISTEN", None).await?;
        let load = port.load(Pace::Rate(50));
        let departures = Departures::watch(ns);

        // Where nobody looks for it.
        let mut broken = replicas(ns, "LISTEN", "0.0.0.0:8081")?;
        broken.spec.rollout.progress_deadline = Duration::from_secs(10).into();
        ns.apply(&broken).await?;
        let stopped = ns
            .until("web", "stopped in its rollout", |web: &ReplicaService| {
                web.is_not("Progressing", "NewReplicasUnhealthy")
            })
            .await?;
        let message = stopped.condition("Progressing").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("Target.FailedHealthChecks"), "not what the proxies saw: {message}");
        ensure!(stopped.is("Available"), "{:?}", stopped.status);
        load.further(50).await?;
        departures.were_drained(0)?;

        let mut sound = web(&ns.environment.demo_app_image)?;
        (sound.spec.scaling.min, sound.spec.scaling.max) = (REPLICAS, 6);
        ns.apply(&sound).await?;
        until_rolled_out(ns, "LISTEN", None).await?;
        load.further(50).await?;
        let tally = load.succeeded().await?;
        ensure!(tally.by_replica.len() == REPLICAS as usize, "another replica answered: {tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_template_that_fails_gives_way_to_the_last_good_one_until_another_is_asked_for() -> Result<()> {
    with_namespace("back", async |ns| {
        let port = ns.serve_web(REPLICAS).await?;
        until_rolled_out(ns, "LISTEN", None).await?;
        let load = port.load(Pace::Rate(50));

        let mut broken = replicas(ns, "LISTEN", "0.0.0.0:8081")?;
        broken.spec.rollout.progress_deadline = Duration::from_secs(10).into();
        broken.spec.rollout.rollback = Rollback::Automatic;
        ns.apply(&broken).await?;
        let back = ns
            .until("web", "rolled back", |web: &ReplicaService| web.is_not("Progressing", "RolledBack"))
            .await?;
        let message = back.condition("Progressing").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("Target.FailedHealthChecks"), "not what the proxies saw: {message}");
        until_rolled_out(ns, "LISTEN", None).await?;
        load.further(50).await?;

        // Another number is no other template: the one that failed does not come again.
        broken.spec.scaling.max = 7;
        ns.apply(&broken).await?;
        ns.until("web", "still rolled back", |web: &ReplicaService| web.is_not("Progressing", "RolledBack"))
            .await?;
        until_rolled_out(ns, "LISTEN", None).await?;

        let mut sound = replicas(ns, "APP_VERSION", "2")?;
        sound.spec.rollout = broken.spec.rollout.clone();
        ns.apply(&sound).await?;
        until_rolled_out(ns, "APP_VERSION", Some("2")).await?;
        ns.until("web", "well", |web: &ReplicaService| web.is("Progressing")).await?;
        load.succeeded().await.map(drop)
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_restart_replaces_every_replica_and_loses_nothing_and_no_time_restarts_nothing() -> Result<()> {
    const TIME: &str = "2026-01-31T12:00:00+01:00";
    with_namespace("restart", async |ns| {
        let port = ns.serve_web(REPLICAS).await?;
        until_rolled_out(ns, "LISTEN", None).await?;
        let load = port.load(Pace::Rate(50));
        let departures = Departures::watch(ns);
        let annotate = async |text: &str| {
            let annotations = json!({"metadata": {"annotations": {"evenkeel.dev/restartedAt": text}}});
            ns.patch::<ReplicaService>("web", annotations).await
        };

        annotate("now").await?;
        let told = ns
            .until("web", "told of the time", |web: &ReplicaService| web.is_not("Accepted", "Invalid"))
            .await?;
        let message = told.condition("Accepted").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("evenkeel.dev/restartedAt"), "{message}");
        departures.were_drained(0)?;

        annotate(TIME).await?;
        until(&ns.api::<Deployment>(), "web", "restarted", |deployment| {
            let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
            let annotations = template.and_then(|template| template.annotations.as_ref());
            let asked = annotations.and_then(|all| all.get("evenkeel.dev/restartedAt"));
            let status = deployment.status.clone().unwrap_or_default();
            let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
            asked.is_some_and(|time| time == TIME)
                && status.observed_generation >= deployment.metadata.generation
                && counts == [Some(REPLICAS); 3]
        })
        .await?;
        load.further(50).await?;
        let tally = load.succeeded().await?;
        ensure!(tally.by_replica.len() == 2 * REPLICAS as usize, "not everyone answered: {tally}");
        departures.were_drained(REPLICAS as usize)
    })
    .await
}
