//! What is carried: HTTP/1.1, HTTP/2 without TLS, WebSocket, TCP.

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::conditions::eventually;
use evenkeel_tests::fixtures::{listener, named, web_group};
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder, Tally, http};
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

async fn ask(client: &Client, requests: u64) -> Result<Tally> {
    let load = Load::start(client, Pace::Connections(4), Recorder::default());
    load.further(requests).await?;
    let tally = load.succeeded().await?;
    Ok(tally)
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn http2_without_tls_and_http1_share_a_port_and_websockets_pass() -> Result<()> {
    with_namespace("protocol", async |ns| {
        let port = ns.serve_web(2).await?;
        let h2c = ask(&Client::h2c(port.url("/")), 400).await?;
        ensure!(h2c.by_replica.len() == 2, "one connection, two replicas: {h2c}");
        let http1 = ask(&Client::http1(port.url("/")), 400).await?;
        ensure!(http1.by_replica.len() == 2, "{http1}");
        let websocket = ask(&Client::websocket(format!("ws://{}/ws", port.address())), 400).await?;
        ensure!(websocket.by_replica.len() == 2, "{websocket}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_tcp_listener_passes_bytes_to_one_target_per_connection() -> Result<()> {
    with_namespace("tcp", async |ns| {
        let second = ns.node_port().await?;
        let mut echo = named(web_group()?, "echo");
        echo.spec.port = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String("echo".into());
        echo.spec.protocol = evenkeel_crds::v1alpha1::TargetProtocol::TCP;
        ns.apply(&echo).await?;
        let tcp = listener(&format!(
            "{{name: echo, port: 9000, protocol: TCP, nodePort: {}, defaultAction: {{forward: {{targetGroups: [{{name: echo}}]}}}}}}",
            second.number
        ))?;
        ns.serve_web_by(2, |shop| shop.spec.listeners.push(tcp)).await?;
        ns.until_healthy("echo", 2).await?;
        eventually("the first echo", async || {
            Client::tcp(second.address()).session().exchange().await.map_err(anyhow::Error::msg)
        })
        .await?;
        let tally = ask(&Client::tcp(second.address()), 400).await?;
        ensure!(tally.by_replica.len() == 2, "four connections, two replicas: {tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn the_target_learns_who_asked_and_what_for_and_nothing_hop_by_hop() -> Result<()> {
    with_namespace("headers", async |ns| {
        let port = ns.serve_web(1).await?;
        let request = Request::post(port.url("/echo/a%20b?c=d%26e"))
            .header("host", "shop.example.com")
            .header("x-forwarded-for", "192.0.2.1")
            .header("connection", "x-private")
            .header("x-private", "mine")
            .header("x-kept", "yes")
            .body(Full::from("hello"))?;
        let answer = http::send(request).await?;
        let seen: Value = serde_json::from_slice(answer.body()).with_context(|| format!("{answer:?}"))?;
        let header = |name: &str| {
            seen.pointer(&format!("/headers/{name}/0")).and_then(Value::as_str).unwrap_or("(none)")
        };
        ensure!(seen.get("uri").and_then(Value::as_str) == Some("/echo/a%20b?c=d%26e"), "{seen:#}");
        ensure!(seen.get("body").and_then(Value::as_str) == Some("hello"), "{seen:#}");
        ensure!(header("host") == "shop.example.com", "{seen:#}");
        ensure!(header("x-forwarded-for").starts_with("192.0.2.1, "), "{seen:#}");
        ensure!(header("x-forwarded-proto") == "http", "{seen:#}");
        ensure!(header("x-forwarded-host") == "shop.example.com", "{seen:#}");
        ensure!(header("x-forwarded-port") == "80", "{seen:#}");
        ensure!(header("x-private") == "(none)" && header("x-kept") == "yes", "{seen:#}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_line_is_printed_for_each_request_when_that_is_asked_for() -> Result<()> {
    with_namespace("logs", async |ns| {
        let port = ns.serve_web_by(1, |shop| shop.spec.access_log = true).await?;
        http::get(&port.url("/logged?by=proxy")).await?;
        eventually("the line of the request", async || {
            let log = ns.kubectl(&["logs", "deployment/shop-proxy", "--tail=-1"]).await?;
            let line = log.lines().find(|line| line.contains("/logged")).context("it is not there")?;
            let line: Value = serde_json::from_str(line)?;
            let at = |field: &str| line.get(field).cloned().unwrap_or_default();
            ensure!(at("path") == "/logged?by=proxy" && at("method") == "GET", "{line}");
            ensure!(at("status") == 200 && at("targetGroup") == "web" && at("attempts") == 1, "{line}");
            Ok(())
        })
        .await
    })
    .await
}
