//! Faults of the metrics that policies need: replicas that would be let go if anybody knew how little they do are kept.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::ReplicaService;
use serde_json::{Value, json};

use super::machine::{Signal, signal};
use super::stage::Stage;
use super::steady::Steady;
use crate::conditions::Conditioned as _;

const METRICS_API: &str = "v1beta1.metrics.k8s.io";
const METRICS_SERVER: &str = "metrics-server";
/// More than the load needs, as far as a policy can tell.
const TOO_MANY: i32 = 6;
/// After the case.
const AGAIN: i32 = 4;

/// metrics-server says nothing, or what is no longer true, from one signal to the other.
pub(super) async fn metrics_server(
    stage: &Stage<'_>,
    steady: &Steady,
    [ill, well]: [Signal; 2],
) -> Result<()> {
    stage.scale(TOO_MANY).await?;
    signal(ill, METRICS_SERVER).await?;
    let meanwhile = nobody_is_let_go(stage, steady).await;
    signal(well, METRICS_SERVER).await?;
    meanwhile?;
    somebody_is_let_go(stage).await
}

pub(super) async fn metrics_api_gone(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let environment = &stage.ns.environment;
    stage.scale(TOO_MANY).await?;
    let definition = environment.kubectl(["get", "apiservice", METRICS_API, "-o", "yaml"]).await?;
    environment.kubectl(["delete", "apiservice", METRICS_API]).await?;
    let meanwhile = nobody_is_let_go(stage, steady).await;
    environment.kubectl_with_input(["create"], &definition).await?;
    meanwhile?;
    somebody_is_let_go(stage).await
}

/// A policy that calls for fewer replicas is blind, and says so.
async fn nobody_is_let_go(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let patient =
        json!([{"name": "cpu", "targetTracking": {"metric": "CPUUtilization", "targetPercent": 1000}}]);
    set_scaling(stage, json!({"policies": patient, "scaleIn": {"stabilization": "1s"}})).await?;
    let blind = |web: &ReplicaService| web.is_not("ScalingActive", "FailedGetResourceMetric");
    stage.ns.until("web", "without metrics of now", blind).await?;
    steady.run_on(stage.extent.outage_seconds).await?;
    let web: ReplicaService = stage.ns.api().get("web").await?;
    ensure!(wanted(&web) == Some(TOO_MANY) && blind(&web), "decided without metrics: {:?}", web.status);
    Ok(())
}

async fn somebody_is_let_go(stage: &Stage<'_>) -> Result<()> {
    let fewer = |web: &ReplicaService| wanted(web).is_some_and(|wanted| wanted < TOO_MANY);
    stage.ns.until("web", "with fewer replicas when there are metrics again", fewer).await?;
    set_scaling(stage, json!({"policies": null, "scaleIn": null})).await?;
    stage.scale(AGAIN).await
}

async fn set_scaling(stage: &Stage<'_>, scaling: Value) -> Result<()> {
    let change = json!({"spec": {"scaling": scaling}});
    stage.ns.patch::<ReplicaService>("web", change).await.map(drop).context("set the policies")
}

fn wanted(web: &ReplicaService) -> Option<i32> {
    web.status.as_ref().map(|status| status.desired_replicas)
}
