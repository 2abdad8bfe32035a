//! Targets that fall ill.

use anyhow::{Result, ensure};
use evenkeel_crds::v1alpha1::TargetGroup;
use evenkeel_tests::cluster::{Namespace, with_namespace};
use evenkeel_tests::conditions::{Conditioned as _, eventually};
use evenkeel_tests::ports::NodePort;
use evenkeel_tests::traffic::{Pace, Tally, http};
use http_body_util::Full;
use hyper::Request;

/// Lets whichever replica gets the request answer health checks with 503 for so long; returns its name.
async fn fall_ill(port: &NodePort, seconds: u32) -> Result<String> {
    let url = port.url(&format!("/admin/health?status=503&s={seconds}"));
    let answer = http::send(Request::post(url).body(Full::default())?).await?;
    Ok(http::replica(&answer)?.to_owned())
}

async fn until_unhealthy(ns: &Namespace, count: i32) -> Result<TargetGroup> {
    ns.until("web", &format!("a group with {count} unhealthy targets"), |group: &TargetGroup| {
        group.status.as_ref().is_some_and(|status| status.targets.unhealthy == count)
    })
    .await
}

async fn ask(port: &NodePort, requests: u64) -> Result<Tally> {
    let load = port.load(Pace::Connections(2));
    load.further(requests).await?;
    Ok(load.stop().await)
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_unhealthy_target_leaves_and_returns() -> Result<()> {
    with_namespace("health", async |ns| {
        let port = ns.serve_web(3).await?;
        let ill = fall_ill(&port, 15).await?;
        let group = until_unhealthy(ns, 1).await?;
        let reasons: Vec<_> =
            group.status.iter().flat_map(|s| &s.target_health).filter_map(|t| t.reason.clone()).collect();
        ensure!(reasons.iter().any(|reason| reason == "Target.ResponseCodeMismatch"), "{:?}", group.status);
        let tally = ask(&port, 300).await?;
        ensure!(tally.failed() == 0, "{tally}");
        ensure!(tally.by_replica.len() == 2 && !tally.by_replica.contains_key(&ill), "{ill} is ill: {tally}");

        ns.until_healthy("web", 3).await?;
        eventually("an answer from the replica that recovered", async || {
            let answer = http::get(&port.url("/")).await?;
            ensure!(http::replica(&answer)? == ill, "another answered");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn when_no_target_is_healthy_all_of_them_serve() -> Result<()> {
    with_namespace("failopen", async |ns| {
        let port = ns.serve_web(2).await?;
        let first = fall_ill(&port, 60).await?;
        eventually("the other replica to fall ill too", async || {
            ensure!(fall_ill(&port, 60).await? != first, "the same one answered");
            Ok(())
        })
        .await?;
        let group = until_unhealthy(ns, 2).await?;
        ensure!(!group.is("Healthy"), "{:?}", group.status);
        let tally = ask(&port, 100).await?;
        ensure!(tally.failed() == 0 && tally.by_replica.len() == 2, "{tally}");
        Ok(())
    })
    .await
}
