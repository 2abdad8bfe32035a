//! What does not hold together is refused with a sentence, or told by a condition; what served goes on serving.

use anyhow::{Context as _, Result, bail, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetProtocol};
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::conditions::{Conditioned as _, until, until_gone};
use evenkeel_tests::fixtures::{balancer, named, rule, web, web_group};
use evenkeel_tests::traffic::{Pace, http};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_pod_template_that_the_cluster_refuses_leaves_the_replicas_serving() -> Result<()> {
    with_namespace("template", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = port.load(Pace::Rate(20));
        let broken = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": ""}]}}}});
        ns.patch::<ReplicaService>("web", broken).await?;
        let service = ns
            .until("web", "refused for its template", |web: &ReplicaService| {
                web.is_not("Accepted", "InvalidTemplate")
            })
            .await?;
        let message = service.condition("Accepted").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("image"), "the message does not name the field: {message}");
        load.further(100).await?;
        let mut good = web(&ns.environment.demo_app_image)?;
        good.spec.scaling.min = 3;
        ns.apply(&good).await?;
        ns.until_healthy("web", 3).await?;
        load.succeeded().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_existing_deployment_of_the_same_name_is_left_alone() -> Result<()> {
    with_namespace("conflict", async |ns| {
        ns.kubectl_apply(&include_str!("legacy.yaml").replace("IMAGE", &ns.environment.demo_app_image))
            .await?;
        let uid = ["get", "deployment", "legacy", "-o", "jsonpath={.metadata.uid} {.metadata.generation}"];
        let before = ns.kubectl(&uid).await?;
        ns.apply(&named(web(&ns.environment.demo_app_image)?, "legacy")).await?;
        let service = ns
            .until("legacy", "in conflict", |service: &ReplicaService| {
                service.is_not("Accepted", "NameConflict")
            })
            .await?;
        let message = service.condition("Accepted").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("Deployment"), "the message does not say what is in the way: {message}");
        ensure!(ns.kubectl(&uid).await? == before, "the Deployment was changed");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_edit_that_is_refused_leaves_the_last_configuration_in_force() -> Result<()> {
    with_namespace("refusededit", async |ns| {
        let port = ns.serve_web(1).await?;
        let twice = rule(10, "[{path: {values: [/a]}}]", "{fixedResponse: {statusCode: 404}}")?;
        let mut shop = balancer(port.number)?;
        for listener in &mut shop.spec.listeners {
            listener.rules = vec![twice.clone(), twice.clone()];
        }
        let Err(refusal) = ns.apply(&shop).await else { bail!("two rules of one priority were accepted") };
        ensure!(format!("{refusal:#}").contains("priority"), "{refusal:#}");
        http::replica(&http::get(&port.url("/a")).await?)?;
        let shop: LoadBalancer = ns.until_programmed("shop").await?;
        ensure!(
            shop.status.context("status")?.observed_generation == shop.metadata.generation,
            "generations differ"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_rule_to_targets_of_another_protocol_leaves_the_rest_serving_by_new_proxies_too() -> Result<()> {
    with_namespace("mismatch", async |ns| {
        let port = ns.serve_web(1).await?;
        let mut bytes = named(web_group()?, "bytes");
        bytes.spec.protocol = TargetProtocol::TCP;
        ns.apply(&bytes).await?;
        let mut shop = balancer(port.number)?;
        for listener in &mut shop.spec.listeners {
            let forward = "{forward: {targetGroups: [{name: bytes}]}}";
            listener.rules = vec![rule(10, "[{path: {values: [/bytes]}}]", forward)?];
        }
        ns.apply(&shop).await?;
        let mismatch = |shop: &LoadBalancer| shop.is_not("ResolvedRefs", "ProtocolMismatch");
        ns.until("shop", "mismatched", mismatch).await?;
        let before = ns.kubectl(&["get", "pods", "-l", PROXIES, "-o", "name"]).await?;
        ns.kubectl(&["delete", "pods", "-l", PROXIES]).await?;
        ns.until_programmed("shop").await?;
        ensure!(ns.kubectl(&["get", "pods", "-l", PROXIES, "-o", "name"]).await? != before, "the same proxy");
        port.until_answering().await?;
        http::replica(&http::get(&port.url("/")).await?)?;
        let answer = http::get(&port.url("/bytes")).await?;
        ensure!(answer.status() == 503, "{answer:?}");
        Ok(())
    })
    .await
}

/// Selects the proxies of `shop`.
const PROXIES: &str = "evenkeel.dev/load-balancer=shop";

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_quantity_that_cannot_be_read_is_told_of() -> Result<()> {
    with_namespace("quantity", async |ns| {
        let mut service = web(&ns.environment.demo_app_image)?;
        let cpu = service.spec.template.pointer_mut("/spec/containers/0/resources/requests/cpu");
        *cpu.context("a CPU request")? = "much".into();
        ns.apply(&service).await?;
        let refused = |web: &ReplicaService| web.is_not("Accepted", "InvalidTemplate");
        let service = ns.until("web", "refused for its template", refused).await?;
        let message = service.condition("Accepted").map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains("quantities"), "the message does not say what is wrong: {message}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_disruption_budget_of_somebody_else_is_named_and_ours_makes_way_for_it() -> Result<()> {
    with_namespace("budget", async |ns| {
        ns.serve_web(2).await?;
        let budgets = ns.api::<PodDisruptionBudget>();
        until(&budgets, "web", "there", |_| true).await?;
        let theirs = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "theirs"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"evenkeel.dev/replica-service": "web"}}},
        });
        ns.kubectl_apply(&theirs.to_string()).await?;
        ns.until("web", "telling of the other budget", |web: &ReplicaService| {
            web.condition("Accepted").is_some_and(|accepted| accepted.message.contains("theirs"))
        })
        .await?;
        until_gone(&budgets, "web").await?;
        ns.kubectl(&["delete", "pdb", "theirs"]).await?;
        until(&budgets, "web", "back", |_| true).await?;
        ns.until("web", "silent again", |web: &ReplicaService| {
            web.condition("Accepted").is_some_and(|accepted| accepted.message.is_empty())
        })
        .await
        .map(drop)
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_pod_that_only_bears_a_replicas_label_gets_no_requests() -> Result<()> {
    with_namespace("impostor", async |ns| {
        let port = ns.serve_web(2).await?;
        let impostor = web(&ns.environment.demo_app_image)?.spec.template;
        let spec = impostor.get("spec").context("the template's spec")?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": "impostor", "labels": {"evenkeel.dev/replica-service": "web"}},
        });
        ns.kubectl_apply(&pod.to_string()).await?;
        ns.kubectl(&["wait", "--for=condition=Ready", "pod/impostor", "--timeout=60s"]).await?;
        let load = port.load(Pace::Rate(50));
        load.further(200).await?;
        let tally = load.succeeded().await?;
        ensure!(tally.by_replica.len() == 2 && !tally.by_replica.contains_key("impostor"), "{tally}");
        ns.until_healthy("web", 2).await
    })
    .await
}
