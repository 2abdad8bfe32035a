//! What does not hold together is refused with a sentence, or told by a condition; what served goes on serving.

use anyhow::{Context as _, Result, bail, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService};
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::conditions::Conditioned as _;
use evenkeel_tests::fixtures::{named, rule, web};
use evenkeel_tests::traffic::{Pace, http};
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
        let mut shop = evenkeel_tests::fixtures::balancer(port.number)?;
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
