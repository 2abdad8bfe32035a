//! Listeners come and go while others serve.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::LoadBalancer;
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::conditions::{Conditioned as _, eventually};
use evenkeel_tests::fixtures::{balancer, listener, named};
use evenkeel_tests::traffic::http;
use http_body_util::Full;
use hyper::Request;

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_listener_comes_and_goes_without_touching_a_download_on_another() -> Result<()> {
    with_namespace("listener", async |ns| {
        let (port, second) = (ns.serve_web(1).await?, ns.node_port().await?);
        let request = Request::get(port.url("/bytes?n=300000&s=25")).body(Full::default())?;
        let download = tokio::spawn(http::send_within(Duration::from_secs(60), request));

        let mut shop = balancer(port.number)?;
        shop.spec.listeners.push(listener(&format!(
            "{{name: second, port: 8081, nodePort: {}, defaultAction: {{fixedResponse: {{statusCode: 200, messageBody: second}}}}}}",
            second.number
        ))?);
        ns.apply(&shop).await?;
        ns.until_programmed("shop").await?;
        let answer = eventually("an answer from the new listener", async || http::get(&second.url("/")).await).await?;
        ensure!(answer.body() == "second", "{answer:?}");

        ns.apply(&balancer(port.number)?).await?;
        ns.until_programmed("shop").await?;
        eventually("no answer from the removed listener", async || {
            ensure!(http::get(&second.url("/")).await.is_err(), "it still answers");
            Ok(())
        })
        .await?;

        ensure!(!download.is_finished(), "the download was over before the listener was gone");
        let answer = download.await??;
        ensure!(answer.body().len() == 300_000, "{} bytes", answer.body().len());
        let restarts = ns.kubectl(&["get", "pods", "-l", "evenkeel.dev/load-balancer=shop", "--no-headers"]).await?;
        ensure!(restarts.lines().count() == 1, "the proxies were replaced: {restarts}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn of_two_load_balancers_that_want_one_node_port_the_second_says_so_and_the_first_serves() -> Result<()>
{
    with_namespace("taken", async |ns| {
        let port = ns.serve_web(1).await?;
        ns.apply(&named(balancer(port.number)?, "rival")).await?;
        let rival = ns
            .until("rival", "refused the node port", |rival: &LoadBalancer| {
                let listeners = rival.status.iter().flat_map(|status| &status.listeners);
                listeners
                    .flat_map(|listener| &listener.conditions)
                    .any(|c| c.reason == "NodePortTaken" && c.status == "False")
            })
            .await?;
        ensure!(!rival.is("Ready"), "{:?}", rival.status);
        let said = rival.status.context("status")?;
        let message = said.listeners.iter().flat_map(|l| &l.conditions).find(|c| c.reason == "NodePortTaken");
        let message = message.map(|c| c.message.clone()).unwrap_or_default();
        ensure!(message.contains(&port.number.to_string()), "the message does not name the port: {message}");
        http::replica(&http::get(&port.url("/")).await?)?;
        Ok(())
    })
    .await
}
