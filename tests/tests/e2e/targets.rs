//! Where targets come from.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, TargetAddress, TargetGroup};
use evenkeel_tests::cluster::{Namespace, with_namespace};
use evenkeel_tests::conditions::{Conditioned as _, eventually, until};
use evenkeel_tests::fixtures::{balancer, listener, web_group};
use evenkeel_tests::ports::NodePort;
use evenkeel_tests::traffic::{Pace, http};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

/// Two pods that nobody scales, and a Service for them.
async fn legacy(ns: &Namespace) -> Result<()> {
    let manifest = include_str!("legacy.yaml").replace("IMAGE", &ns.environment.demo_app_image);
    ns.kubectl_apply(&manifest).await?;
    let deployments: Api<Deployment> = ns.api();
    until(&deployments, "legacy", "available", |deployment| {
        deployment.status.as_ref().is_some_and(|status| status.ready_replicas == Some(2))
    })
    .await
    .map(drop)
}

async fn answers_by(port: &NodePort, replicas: usize) -> Result<()> {
    port.until_answering().await?;
    let load = port.load(Pace::Connections(2));
    load.further(200).await?;
    let tally = load.stop().await;
    ensure!(tally.failed() == 0 && tally.by_replica.len() == replicas, "{tally}");
    ensure!(tally.by_replica.keys().all(|name| name.starts_with("legacy-")), "{tally}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_existing_services_endpoints_are_targets() -> Result<()> {
    with_namespace("service", async |ns| {
        legacy(ns).await?;
        let mut group: TargetGroup = web_group()?;
        group.spec.targets = serde_json::from_value(serde_json::json!({"service": {"name": "legacy"}}))?;
        ns.apply(&group).await?;
        let port = ns.node_port().await?;
        ns.apply(&balancer(port.number)?).await?;
        ns.until_programmed("shop").await?;
        ns.until_healthy("web", 2).await?;
        answers_by(&port, 2).await?;
        ns.kubectl(&["scale", "deployment/legacy", "--replicas=3"]).await?;
        ns.until_healthy("web", 3).await?;
        answers_by(&port, 3).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn fixed_addresses_are_targets_with_their_weights() -> Result<()> {
    with_namespace("address", async |ns| {
        legacy(ns).await?;
        let pods: Api<Pod> = ns.api();
        let pods = pods.list(&ListParams::default().labels("app=legacy")).await?;
        let mut addresses = Vec::new();
        for (pod, weight) in pods.items.iter().zip([3, 1]) {
            let address = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref())
                .context("a pod without address")?;
            addresses.push(TargetAddress { address: address.parse()?, port: Some(8080), zone: None, weight });
        }
        let mut group: TargetGroup = web_group()?;
        group.spec.port = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(8080);
        group.spec.targets.replica_service = None;
        group.spec.targets.addresses = Some(addresses);
        ns.apply(&group).await?;
        let port = ns.node_port().await?;
        ns.apply(&balancer(port.number)?).await?;
        ns.until_programmed("shop").await?;
        ns.until_healthy("web", 2).await?;
        port.until_answering().await?;

        let load = port.load(Pace::Connections(2));
        load.further(400).await?;
        let tally = load.succeeded().await?;
        let most = tally.by_replica.values().max().copied().unwrap_or_default() as f64;
        let share = most / tally.requests as f64;
        ensure!((0.73..0.77).contains(&share), "{share:.3} instead of 3/4: {tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_target_group_that_does_not_exist_is_named_and_everything_else_serves() -> Result<()> {
    with_namespace("missing", async |ns| {
        let second = ns.node_port().await?;
        let port = ns.serve_web(1).await?;
        let mut shop = balancer(port.number)?;
        shop.spec.listeners.push(listener(&format!(
            "{{name: second, port: 8081, nodePort: {}, defaultAction: {{forward: {{targetGroups: [{{name: later}}]}}}}}}",
            second.number
        ))?);
        ns.apply(&shop).await?;
        let shop = ns
            .until("shop", "missing a target group", |shop: &LoadBalancer| shop.is_not("ResolvedRefs", "TargetGroupNotFound"))
            .await?;
        let message = shop.condition("ResolvedRefs").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("later"), "the message does not name it: {message}");
        http::replica(&http::get(&port.url("/")).await?)?;
        eventually("503 from the listener without a target group", async || {
            let answer = http::get(&second.url("/")).await?;
            ensure!(answer.status() == 503, "{answer:?}");
            Ok(())
        })
        .await?;

        ns.apply(&evenkeel_tests::fixtures::named(web_group()?, "later")).await?;
        ns.until("shop", "complete", |shop: &LoadBalancer| shop.is("ResolvedRefs")).await?;
        eventually("an answer from the target group that came later", async || {
            http::replica(&http::get(&second.url("/")).await?).map(drop)
        })
        .await
    })
    .await
}
