//! The installation itself is upgraded, removed, broken. Each of these tests has it alone.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService};
use evenkeel_tests::cluster::alone;
use evenkeel_tests::conditions::{DEADLINE, HasConditions as _, eventually};
use evenkeel_tests::environment::SYSTEM;
use evenkeel_tests::fixtures::{answering, web};
use evenkeel_tests::install::{RELEASE, install};
use evenkeel_tests::traffic::{self, Load, Pace, Recorder, http};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::json;

const METRICS_API: &str = "v1beta1.metrics.k8s.io";

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn without_the_operator_everything_serves_and_a_new_installation_takes_over() -> Result<()> {
    alone("uninstall", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = Load::start(&traffic::Client::http1(port.url("/")), Pace::Rate(50), Recorder::default());
        ns.environment.helm(["uninstall", RELEASE, "--namespace", SYSTEM, "--wait"]).await?;
        let kept = async {
            let crds = ns.environment.kubectl(["get", "crd", "-o", "name"]).await?;
            for kind in ["loadbalancers", "targetgroups", "replicaservices"] {
                ensure!(crds.contains(&format!("{kind}.evenkeel.dev")), "{kind} is gone:\n{crds}");
            }
            let objects =
                ns.kubectl(&["get", "loadbalancers,targetgroups,replicaservices", "-o", "name"]).await?;
            ensure!(objects.lines().count() == 3, "objects are gone:\n{objects}");
            load.reached(load.tally().requests + 100).await
        }
        .await;
        install(&ns.environment, &[]).await?; // in any case: others need it
        kept?;

        ns.apply(&answering(port.number, "new")?).await?;
        ns.until_programmed("shop").await?;
        ensure!(http::get(&port.url("/")).await?.body() == "new");
        let tally = load.stop().await;
        ensure!(tally.failed() == 0, "{tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_upgrade_of_the_chart_disturbs_no_request_and_restarts_no_replica() -> Result<()> {
    alone("upgrade", async |ns| {
        let port = ns.serve_web(2).await?;
        let pods = ["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"];
        let before = ns.kubectl(&pods).await?;
        let load = Load::start(&traffic::Client::http1(port.url("/")), Pace::Rate(50), Recorder::default());
        // any change of the operator's pods will do
        ns.environment
            .kubectl(["--namespace", SYSTEM, "rollout", "restart", "deployment/evenkeel-operator"])
            .await?;
        let upgraded = install(&ns.environment, &[]).await?;
        ensure!(upgraded.contains("STATUS: deployed"), "{upgraded}");
        ns.environment
            .kubectl([
                "--namespace",
                SYSTEM,
                "rollout",
                "status",
                "deployment/evenkeel-operator",
                "--timeout=60s",
            ])
            .await?;
        let mut service = web(&ns.environment.demo_app_image)?;
        service.spec.scaling.min = 3;
        ns.apply(&service).await?;
        ns.until_healthy("web", 3).await?;
        let after = ns.kubectl(&pods).await?;
        ensure!(
            before.split(' ').all(|uid| after.contains(uid)),
            "pods were replaced: {before} became {after}"
        );
        let tally = load.stop().await;
        ensure!(tally.failed() == 0, "{tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn another_operator_takes_over_when_the_leader_dies() -> Result<()> {
    alone("leader", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = Load::start(&traffic::Client::http1(port.url("/")), Pace::Rate(50), Recorder::default());
        let first = leader(&ns.client).await?;
        let pods: Api<Pod> = Api::namespaced(ns.client.clone(), SYSTEM);
        pods.delete(&first, &DeleteParams::default().grace_period(0))
            .await
            .context("the lease's holder is a pod's name")?;
        eventually("another holder", async || {
            let now = leader(&ns.client).await?;
            ensure!(now != first, "{now} still holds it");
            Ok(())
        })
        .await?;
        ns.apply(&answering(port.number, "from the new leader")?).await?;
        ns.until("shop", "programmed by the new leader", |shop: &LoadBalancer| shop.is("Programmed")).await?;
        ensure!(http::get(&port.url("/")).await?.body() == "from the new leader");
        let tally = load.stop().await;
        ensure!(tally.failed() == 0, "{tally}");
        ns.environment
            .kubectl([
                "--namespace",
                SYSTEM,
                "rollout",
                "status",
                "deployment/evenkeel-operator",
                "--timeout=60s",
            ])
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn without_the_metrics_api_nothing_scales_in_and_it_is_said_what_to_install() -> Result<()> {
    alone("metrics", async |ns| {
        let mut service = web(&ns.environment.demo_app_image)?;
        service.spec.scaling.policies = serde_json::from_value(json!([
            {"name": "cpu", "targetTracking": {"metric": "CPUUtilization", "targetPercent": 50}}
        ]))?;
        service.spec.scaling.scale_in.stabilization = std::time::Duration::from_secs(1).into();
        ns.apply(&service).await?;
        ns.until("web", "scaled by its policy", |web: &ReplicaService| web.is("ScalingActive")).await?;
        let definition = ns.environment.kubectl(["get", "apiservice", METRICS_API, "-o", "yaml"]).await?;
        ns.environment.kubectl(["delete", "apiservice", METRICS_API]).await?;
        let told = async {
            let service = ns.until("web", "without metrics", |web: &ReplicaService| {
                web.condition("ScalingActive").is_some_and(|c| c.status == "False")
            });
            let service = service.await?;
            let message = service.condition("ScalingActive").map(|c| c.message.clone()).unwrap_or_default();
            ensure!(
                message.contains("metrics-server"),
                "the message does not say what to install: {message}"
            );
            ns.kubectl(&["scale", "replicaservice/web", "--replicas=4"]).await?;
            ns.until("web", "at 4 by hand", |web: &ReplicaService| {
                web.status.as_ref().is_some_and(|status| status.ready_replicas == 4)
            })
            .await
        }
        .await;
        let manifest = without_server_fields(&definition);
        ns.environment.kubectl_with_input(["create"], &manifest).await?; // in any case: others need it
        told?;
        // Idle replicas are let go again only now that there are metrics.
        let service = ns
            .until("web", "back at its minimum", |web: &ReplicaService| {
                web.status.as_ref().is_some_and(|status| status.desired_replicas == 2)
            })
            .await
            .with_context(|| format!("{} s after the metrics came back", DEADLINE.as_secs()))?;
        ensure!(service.is("ScalingActive"), "{:?}", service.status);
        Ok(())
    })
    .await
}

/// Name of the pod that holds the lease.
async fn leader(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let holder = leases.get("evenkeel-operator").await?.spec.and_then(|spec| spec.holder_identity);
    holder.filter(|holder| !holder.is_empty()).context("nobody holds the lease")
}

/// A manifest without what only the API server may write.
fn without_server_fields(yaml: &str) -> String {
    let server = ["resourceVersion:", "uid:", "creationTimestamp:"];
    let spec = yaml.split("\nstatus:").next().unwrap_or(yaml);
    spec.lines()
        .filter(|line| !server.iter().any(|field| line.trim_start().starts_with(field)))
        .fold(String::new(), |text, line| text + line + "\n")
}
