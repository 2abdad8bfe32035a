//! The installation itself is upgraded, removed, broken. Each of these tests has it alone.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use evenkeel_tests::cluster::{Namespace, alone};
use evenkeel_tests::conditions::{Conditioned as _, eventually};
use evenkeel_tests::environment::SYSTEM;
use evenkeel_tests::faults::control::leader;
use evenkeel_tests::fixtures::{answering, balancer, rule, web, web_group};
use evenkeel_tests::install::{RELEASE, install};
use evenkeel_tests::ports::NodePort;
use evenkeel_tests::traffic::{Pace, http};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::api::{Api, DeleteParams};
use serde_json::json;

const METRICS_API: &str = "v1beta1.metrics.k8s.io";
/// Selects the proxies of `shop`.
const PROXIES: &str = "evenkeel.dev/load-balancer=shop";

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn without_the_operator_everything_serves_and_a_new_installation_takes_over() -> Result<()> {
    alone("uninstall", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = port.load(Pace::Rate(50));
        ns.environment.helm(["uninstall", RELEASE, "--namespace", SYSTEM, "--wait"]).await?;
        let kept = async {
            let crds = ns.environment.kubectl(["get", "crd", "-o", "name"]).await?;
            for kind in ["loadbalancers", "targetgroups", "replicaservices"] {
                ensure!(crds.contains(&format!("{kind}.evenkeel.dev")), "{kind} is gone:\n{crds}");
            }
            let objects =
                ns.kubectl(&["get", "loadbalancers,targetgroups,replicaservices", "-o", "name"]).await?;
            ensure!(objects.lines().count() == 3, "objects are gone:\n{objects}");
            load.further(100).await
        }
        .await;
        install(&ns.environment, &[]).await?; // in any case: others need it
        kept?;

        ns.apply(&answering(port.number, "new")?).await?;
        ns.until_programmed("shop").await?;
        ensure!(http::get(&port.url("/")).await?.body() == "new");
        load.succeeded().await?;
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
        let load = port.load(Pace::Rate(50));
        // any change of the operator's pods will do
        rollout(ns, "restart", &[]).await?;
        let upgraded = install(&ns.environment, &[]).await?;
        ensure!(upgraded.contains("STATUS: deployed"), "{upgraded}");
        until_rolled_out(ns).await?;
        let mut service = web(&ns.environment.demo_app_image)?;
        service.spec.scaling.min = 3;
        ns.apply(&service).await?;
        ns.until_healthy("web", 3).await?;
        let after = ns.kubectl(&pods).await?;
        ensure!(
            before.split(' ').all(|uid| after.contains(uid)),
            "pods were replaced: {before} became {after}"
        );
        load.succeeded().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn another_operator_takes_over_when_the_leader_dies() -> Result<()> {
    alone("leader", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = port.load(Pace::Rate(50));
        kill_leader(ns).await?;
        ns.apply(&answering(port.number, "from the new leader")?).await?;
        ns.until("shop", "programmed by the new leader", |shop: &LoadBalancer| shop.is("Programmed")).await?;
        ensure!(http::get(&port.url("/")).await?.body() == "from the new leader");
        load.succeeded().await?;
        until_rolled_out(ns).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn what_was_accepted_last_serves_under_a_new_leader_and_by_new_proxies() -> Result<()> {
    alone("lastgood", async |ns| {
        let port = ns.serve_web_by(2, |shop| shop.spec.replicas = 2).await?;
        let load = port.load(Pace::Rate(50));
        invalidate(ns, &port).await?;
        kill_leader(ns).await?;
        for proxy in ns.kubectl(&["get", "pods", "-l", PROXIES, "-o", "name"]).await?.lines() {
            ns.kubectl(&["delete", proxy]).await?; // returns when it is gone, after its drain
            ns.kubectl(&["rollout", "status", "deployment/shop-proxy", "--timeout=60s"]).await?;
        }
        load.further(250).await?; // 5 s, by new proxies alone

        ns.apply(&web_group()?).await?;
        ns.until("web", "mended", |web: &TargetGroup| web.is("Accepted") && !carries(web)).await?;
        let mut shop = answering(port.number, "mended")?;
        shop.spec.replicas = 2;
        ns.apply(&shop).await?;
        ns.until("shop", "mended", |shop: &LoadBalancer| shop.is("Programmed") && !carries(shop)).await?;
        ensure!(http::get(&port.url("/")).await?.body() == "mended");
        load.succeeded().await?;
        until_rolled_out(ns).await
    })
    .await
}

/// Makes the load balancer and the target group contradict themselves in ways that the API server cannot see.
async fn invalidate(ns: &Namespace, port: &NodePort) -> Result<()> {
    let mut shop = balancer(port.number)?;
    let six_values = "[{path: {values: [/1, /2, /3]}}, {method: {values: [GET, HEAD, PUT]}}]";
    for listener in &mut shop.spec.listeners {
        listener.rules = vec![rule(10, six_values, "{fixedResponse: {statusCode: 404}}")?];
    }
    ns.apply(&shop).await?;
    let mut web = web_group()?;
    let twice = json!({"addresses": [{"address": "192.0.2.7"}, {"address": "192.0.2.7", "port": 8080}]});
    (web.spec.port, web.spec.targets) = (IntOrString::Int(8080), serde_json::from_value(twice)?);
    ns.apply(&web).await?;
    let shop = |shop: &LoadBalancer| shop.is_not("Accepted", "Invalid") && carries(shop);
    let shop = ns.until("shop", "invalid, and carries what is in force", shop).await?;
    let message = shop.condition("Accepted").map(|c| c.message.clone()).unwrap_or_default();
    ensure!(message.contains("what served before goes on"), "{message}");
    let web = |web: &TargetGroup| web.is_not("Accepted", "Invalid") && carries(web);
    ns.until("web", "invalid, and carries what is in force", web).await.map(drop)
}

/// Whether an object carries an earlier version of itself.
fn carries(object: &impl Resource) -> bool {
    object.meta().annotations.iter().flatten().any(|(name, _)| name == "evenkeel.dev/last-accepted")
}

/// Kills the operator that leads, and waits until another one does.
async fn kill_leader(ns: &Namespace) -> Result<()> {
    let first = leader(&ns.client).await?;
    let pods: Api<Pod> = Api::namespaced(ns.client.clone(), SYSTEM);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&first, &at_once).await.context("the lease's holder is a pod's name")?;
    eventually("another holder", async || {
        let now = leader(&ns.client).await?;
        ensure!(now != first, "{now} still holds it");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn without_the_metrics_api_nothing_scales_in_and_it_is_said_what_to_install() -> Result<()> {
    alone("metrics", async |ns| {
        let port = ns.serve_web(2).await?;
        let policies =
            json!([{"name": "cpu", "targetTracking": {"metric": "CPUUtilization", "targetPercent": 50}}]);
        let scaling = json!({"policies": policies, "scaleIn": {"stabilization": "1s"}});
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": scaling}})).await?;
        ns.until("web", "scaled by its policy", |web: &ReplicaService| web.is("ScalingActive")).await?;
        let definition = ns.environment.kubectl(["get", "apiservice", METRICS_API, "-o", "yaml"]).await?;
        ns.environment.kubectl(["delete", "apiservice", METRICS_API]).await?;
        let outage = idle_replicas_stay(ns, &port).await;
        let manifest = without_server_fields(&definition);
        ns.environment.kubectl_with_input(["create"], &manifest).await?; // in any case: others need it
        outage?;
        let well = |web: &ReplicaService| desired(web) == Some(2) && web.is("ScalingActive");
        let well = ns.until("web", "back at its minimum by its policy", well).await;
        well.map(drop).context("idle replicas are let go when the metrics are back")
    })
    .await
}

/// Without metrics: says so, obeys `kubectl scale`, and keeps replicas that it would let go within seconds if it knew
/// them to be idle.
async fn idle_replicas_stay(ns: &Namespace, port: &NodePort) -> Result<()> {
    let blind = |web: &ReplicaService| web.is_not("ScalingActive", "FailedGetResourceMetric");
    let service = ns.until("web", "without metrics", blind).await?;
    let message = service.condition("ScalingActive").map(|c| c.message.clone()).unwrap_or_default();
    ensure!(message.contains("metrics-server"), "the message does not say what to install: {message}");
    ns.kubectl(&["scale", "replicaservice/web", "--replicas=4"]).await?;
    ns.until_healthy("web", 4).await?;
    let load = port.load(Pace::Rate(20));
    load.further(300).await?; // 15 s
    load.succeeded().await?;
    let service = ns.until("web", "there", |_: &ReplicaService| true).await?;
    ensure!(desired(&service) == Some(4), "replicas were let go: {:?}", service.status);
    Ok(())
}

fn desired(service: &ReplicaService) -> Option<i32> {
    service.status.as_ref().map(|status| status.desired_replicas)
}

/// Waits until every pod of the operator is ready again: other tests need them.
async fn until_rolled_out(ns: &Namespace) -> Result<()> {
    rollout(ns, "status", &["--timeout=60s"]).await
}

async fn rollout(ns: &Namespace, verb: &str, arguments: &[&str]) -> Result<()> {
    let operator = ["--namespace", SYSTEM, "rollout", verb, "deployment/evenkeel-operator"];
    ns.environment.kubectl(operator.iter().chain(arguments)).await.map(drop)
}

/// A manifest without what only the API server may write.
fn without_server_fields(yaml: &str) -> String {
    let server = ["resourceVersion:", "uid:", "creationTimestamp:"];
    let spec = yaml.split("\nstatus:").next().unwrap_or(yaml);
    spec.lines()
        .filter(|line| !server.iter().any(|field| line.trim_start().starts_with(field)))
        .fold(String::new(), |text, line| text + line + "\n")
}
