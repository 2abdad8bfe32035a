//! How many replicas there are, and that nobody notices when the number changes.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{Policy, ReplicaService};
use evenkeel_tests::cluster::{Namespace, with_namespace};
use evenkeel_tests::conditions::{Conditioned as _, until};
use evenkeel_tests::fixtures::web;
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::json;

async fn until_replicas(ns: &Namespace, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = ns.api();
    until(&deployments, "web", &format!("at {replicas} ready replicas"), |deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        let spec = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let ready = status.ready_replicas.unwrap_or(0);
        (spec, status.replicas.unwrap_or(0), ready) == (Some(replicas), replicas, replicas)
    })
    .await
    .map(drop)
}

fn cpu_policy() -> Result<Vec<Policy>> {
    Ok(serde_json::from_value(json!([
        {"name": "cpu", "targetTracking": {"metric": "CPUUtilization", "targetPercent": 50}}
    ]))?)
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn load_on_the_cpu_scales_out_to_max_and_quiet_scales_in_to_min_without_a_failed_request() -> Result<()>
{
    with_namespace("cpu", async |ns| {
        let port = ns.serve_web(1).await?;
        let mut service = web(&ns.environment.demo_app_image)?;
        (service.spec.scaling.min, service.spec.scaling.max) = (1, 3);
        service.spec.scaling.policies = cpu_policy()?;
        service.spec.scaling.scale_in.stabilization = std::time::Duration::from_secs(5).into();
        ns.apply(&service).await?;

        let recorder = Recorder::default();
        let client = Client::http1(port.url("/work?ms=2"));
        let busy = Load::start(&client, Pace::Rate(60), recorder.clone());
        until_replicas(ns, 3).await?;
        let limited = ns.until("web", "limited", |web: &ReplicaService| web.is("ScalingLimited")).await?;
        ensure!(limited.is("ScalingActive"), "{:?}", limited.status);
        let quiet = Load::start(&client.with_url(port.url("/")), Pace::Rate(20), recorder);
        busy.stop().await;
        until_replicas(ns, 1).await?;
        let tally = quiet.succeeded().await?;
        ensure!(tally.by_replica.len() >= 3, "the new replicas got nothing: {tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn kubectl_scale_and_edits_of_desired_are_obeyed_within_min_and_max() -> Result<()> {
    with_namespace("desired", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = port.load(Pace::Rate(50));
        ns.kubectl(&["scale", "replicaservice/web", "--replicas=4"]).await?;
        until_replicas(ns, 4).await?;
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": {"desired": 3}}})).await?;
        until_replicas(ns, 3).await?;
        ns.kubectl(&["scale", "replicaservice/web", "--replicas=100"]).await?;
        until_replicas(ns, 6).await?;
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": {"desired": 1}}})).await?;
        until_replicas(ns, 2).await?;
        ns.until("web", "told its own number", |web: &ReplicaService| web.spec.scaling.desired == Some(2))
            .await?;
        let tally = load.succeeded().await?;
        ensure!(tally.by_replica.len() >= 6, "{tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_changed_min_and_max_bring_the_replicas_within_them() -> Result<()> {
    with_namespace("bounds", async |ns| {
        ns.serve_web(1).await?;
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": {"min": 3}}})).await?;
        until_replicas(ns, 3).await?;
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": {"min": 1, "max": 2}}})).await?;
        until_replicas(ns, 2).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_container_without_a_cpu_request_is_named_and_nothing_scales() -> Result<()> {
    with_namespace("norequest", async |ns| {
        let mut service = web(&ns.environment.demo_app_image)?;
        service.spec.scaling.policies = cpu_policy()?;
        let resources = service.spec.template.pointer_mut("/spec/containers/0/resources/requests");
        *resources.context("requests")? = json!({"memory": "16Mi"});
        ns.apply(&service).await?;
        let service = ns
            .until("web", "without a CPU request", |web: &ReplicaService| {
                web.is_not("ScalingActive", "MissingCPURequest")
            })
            .await?;
        let message = service.condition("ScalingActive").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("web"), "the message does not name the container: {message}");
        until_replicas(ns, 2).await
    })
    .await
}
