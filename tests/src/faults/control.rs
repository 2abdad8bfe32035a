//! Faults of what decides: operators, and the parts of Kubernetes that they need.

use anyhow::{Context as _, Result, ensure};
use futures::future::LocalBoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::cases::choose;
use super::machine::{Signal, signal};
use super::stage::{REPLICAS, Stage, uid};
use super::steady::Steady;
use crate::conditions::{eventually, until};
use crate::environment::SYSTEM;

/// Name of the Secret with the certificate authority.
const AUTHORITY: &str = "evenkeel-ca";
/// So many deadlines long a rotation may take: kubelets renew mounted files within two minutes, and each phase lasts one.
const ROTATION_PATIENCE: usize = 4;
/// Both operators are away so much longer than a component of the cluster.
const OPERATORS_AWAY: u64 = 5;

pub(super) async fn operator_killed_in_a_drain(stage: &Stage<'_>) -> Result<()> {
    begin_drain(stage).await?;
    signal(Signal::Kill, &leaders_uid(&stage.ns.client).await?).await?;
    stage.until_well(2).await?;
    stage.operator(&["rollout", "status", "deployment/evenkeel-operator", "--timeout=60s"]).await
}

pub(super) async fn begin_drain(stage: &Stage<'_>) -> Result<()> {
    stage.ns.kubectl(&["scale", "replicaservice/web", "--replicas=2"]).await?;
    eventually("a replica that drains", async || {
        let drains = |pod: &Pod| pod.annotations().contains_key("evenkeel.dev/draining");
        ensure!(stage.replicas().await?.iter().any(drains), "none drains");
        Ok(())
    })
    .await
}

/// Operators that die whenever they have taken such a step; each takes over from another that did.
pub(super) async fn operator_dies(
    stage: &Stage<'_>,
    steps: &[&str],
    change: for<'a> fn(&'a Stage<'_>) -> LocalBoxFuture<'a, Result<()>>,
) -> Result<()> {
    for step in steps {
        stage.set_operator(&format!("EVENKEEL_DIE_AFTER={step}")).await?;
        // One time-out may be too short for many deaths in a row.
        let changed = match change(stage).await {
            Ok(()) => Ok(()),
            Err(_) => stage.until_settled().await,
        };
        let deaths = stage.operator_deaths().await?;
        stage.set_operator("EVENKEEL_DIE_AFTER-").await?;
        changed.with_context(|| format!("after {step}"))?;
        ensure!(deaths > 0, "no operator died after {step}");
        stage.scale(REPLICAS).await?;
    }
    Ok(())
}

/// The leader is stopped until another leads, and then goes on as if nothing had happened.
pub(super) async fn leader_paused(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let paused = leader(&stage.ns.client).await?;
    let uid_of_paused = leaders_uid(&stage.ns.client).await?;
    signal(Signal::Stop, &uid_of_paused).await?;
    let meanwhile = async {
        eventually("another leader", async || {
            ensure!(leader(&stage.ns.client).await? != paused, "{paused} still leads");
            Ok(())
        })
        .await?;
        stage.ns.kubectl(&["scale", "replicaservice/web", "--replicas=2"]).await?;
        steady.run_on(1).await
    };
    let meanwhile = meanwhile.await;
    signal(Signal::Continue, &uid_of_paused).await?;
    meanwhile?;
    stage.until_well(2).await?;
    stage.operator(&["rollout", "status", "deployment/evenkeel-operator", "--timeout=60s"]).await
}

pub(super) async fn operators_away(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    without_operators(stage, async || steady.run_on(OPERATORS_AWAY * stage.extent.outage_seconds).await).await
}

/// Nobody tells the proxies of it, nor the replica when they know.
pub(super) async fn replica_deleted_without_operators(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    without_operators(stage, async || {
        let victim = choose(stage.replicas().await?)?;
        let replicas: Api<Pod> = stage.ns.api();
        replicas.delete(&victim.name_any(), &DeleteParams::default()).await?;
        steady.run_on(stage.extent.outage_seconds).await
    })
    .await
}

/// When they are back, they scale.
async fn without_operators(stage: &Stage<'_>, meanwhile: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let scale =
        async |replicas: &str| stage.operator(&["scale", "deployment/evenkeel-operator", replicas]).await;
    scale("--replicas=0").await?;
    let away = async {
        let pods: Api<Pod> = Api::namespaced(stage.ns.client.clone(), SYSTEM);
        for pod in pods.list(&kube::api::ListParams::default()).await? {
            crate::conditions::until_gone(&pods, &pod.name_any()).await?;
        }
        meanwhile().await
    };
    let away = away.await;
    scale("--replicas=2").await?;
    away?;
    stage.operator(&["rollout", "status", "deployment/evenkeel-operator", "--timeout=60s"]).await?;
    stage.scale(4).await
}

pub(super) async fn component_hangs(stage: &Stage<'_>, steady: &Steady, component: &str) -> Result<()> {
    signal(Signal::Stop, component).await?;
    let meanwhile = steady.run_on(stage.extent.outage_seconds).await;
    signal(Signal::Continue, component).await?;
    meanwhile?;
    eventually("the API server answers", async || Ok(stage.ns.client.apiserver_version().await?)).await?;
    stage.scale(4).await
}

/// Another certificate authority takes over, and then another leader that signs with it: every proxy connects anew.
pub(super) async fn authority_rotated(stage: &Stage<'_>) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(stage.ns.client.clone(), SYSTEM);
    let before = secrets.get(AUTHORITY).await?.data;
    let wish = json!({"metadata": {"annotations": {"evenkeel.dev/rotate": "true"}}});
    secrets.patch(AUTHORITY, &PatchParams::default(), &Patch::Merge(wish)).await?;
    let keys = |secret: &Secret| secret.data.clone().unwrap_or_default().into_keys().collect::<Vec<_>>();
    let rotated = |secret: &Secret| secret.data != before && keys(secret) == ["tls.crt", "tls.key"];
    let mut seen = Ok(());
    for _ in 0..ROTATION_PATIENCE {
        seen = until(&secrets, AUTHORITY, "another authority's alone", rotated).await.map(drop);
        if seen.is_ok() {
            break;
        }
    }
    seen?;
    signal(Signal::Kill, &leaders_uid(&stage.ns.client).await?).await?;
    stage.scale(4).await
}

/// Name of the pod that holds the operator's lease.
///
/// # Errors
/// When nobody does.
pub async fn leader(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let holder = leases.get("evenkeel-operator").await?.spec.and_then(|spec| spec.holder_identity);
    holder.filter(|holder| !holder.is_empty()).context("nobody holds the lease")
}

/// UID of the pod that holds the operator's lease.
pub(super) async fn leaders_uid(client: &Client) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    uid(&pods.get(&leader(client).await?).await?).map(str::to_owned)
}
