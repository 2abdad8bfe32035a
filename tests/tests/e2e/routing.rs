//! Which request goes where.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::fixtures::{action, answering, named, rule, web, web_group};
use evenkeel_tests::traffic::{Pace, http};
use http_body_util::Full;
use hyper::Request;

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_load_balancer_that_is_applied_becomes_programmed_and_answers() -> Result<()> {
    with_namespace("apply", async |ns| {
        let port = ns.serve_web(1).await?;
        let answer = http::get(&port.url("/")).await?;
        ensure!(http::replica(&answer)?.starts_with("web-"), "{answer:?}");
        let status = ns.until_programmed("shop").await?.status.context("status")?;
        ensure!(
            (status.proxies.desired, status.proxies.ready, status.proxies.up_to_date) == (1, 1, 1),
            "{status:?}"
        );
        ensure!(status.listeners.iter().all(|l| l.node_port == Some(port.number)), "{status:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn requests_are_spread_over_the_replicas_within_two_percent() -> Result<()> {
    with_namespace("spread", async |ns| {
        let port = ns.serve_web_by(3, |shop| shop.spec.replicas = 2).await?;
        let load = port.load(Pace::Connections(4));
        load.further(3_000).await?;
        let tally = load.succeeded().await?;
        ensure!(tally.by_replica.len() == 3, "{tally}");
        ensure!(tally.spread_percent() <= 2.0, "a spread of {:.1} %: {tally}", tally.spread_percent());
        Ok(())
    })
    .await
}

/// A request, and what is expected: status, and what the body or the `location` contains.
struct Case {
    request: Request<Full<Bytes>>,
    status: u16,
    expected: &'static str,
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_rule_of_each_kind_takes_what_matches_and_only_that() -> Result<()> {
    with_namespace("rules", async |ns| {
        let reply = |name| format!("{{fixedResponse: {{statusCode: 200, messageBody: by {name}}}}}");
        let rules = vec![
            rule(
                10,
                "[{path: {values: ['/teapot*', '/p?t']}}]",
                "{fixedResponse: {statusCode: 418, messageBody: short and stout}}",
            )?,
            rule(20, "[{host: {values: ['*.example.com']}}]", &reply("host"))?,
            rule(30, "[{header: {name: X-Beta, values: ['1']}}]", &reply("header"))?,
            rule(40, "[{method: {values: [DELETE]}}]", &reply("method"))?,
            rule(50, "[{query: {pairs: [{key: v, value: '2'}]}}]", &reply("query"))?,
            rule(
                60,
                "[{path: {values: [/old/*]}}]",
                "{redirect: {statusCode: 301, protocol: HTTPS, port: '443', path: '/new'}}",
            )?,
            rule(
                70,
                "[{path: {values: [/outside]}}, {sourceIp: {values: [192.0.2.0/24]}}]",
                &reply("a wrong source"),
            )?,
            rule(71, "[{path: {values: [/outside]}}, {sourceIp: {values: [0.0.0.0/0]}}]", &reply("source"))?,
        ];
        let port = ns
            .serve_web_by(1, |shop| shop.spec.listeners.iter_mut().for_each(|l| l.rules.clone_from(&rules)))
            .await?;
        for Case { request, status, expected } in cases(&port.url(""))? {
            let what = format!("{request:?}");
            let answer = http::send(request).await?;
            ensure!(answer.status() == status, "{what}: {answer:?}");
            let body = String::from_utf8_lossy(answer.body());
            let location =
                answer.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
            ensure!(
                body.contains(expected) || location == expected,
                "{what}: {expected:?} is not in {answer:?}"
            );
        }
        Ok(())
    })
    .await
}

fn cases(base: &str) -> Result<Vec<Case>> {
    let get = |path: &str| Request::get(format!("{base}{path}"));
    let case = |request: hyper::http::request::Builder, status, expected| {
        anyhow::Ok(Case { request: request.body(Full::default())?, status, expected })
    };
    Ok(vec![
        case(get("/teapot/1?x=y"), 418, "short and stout")?,
        case(get("/pot"), 418, "short and stout")?,
        case(get("/Teapot"), 200, "\"replica\"")?,
        case(get("/").header("host", "Shop.Example.com:8080"), 200, "by host")?,
        case(get("/").header("host", "example.com"), 200, "\"replica\"")?,
        case(get("/").header("x-beta", "1"), 200, "by header")?,
        case(get("/").header("x-beta", "2"), 200, "\"replica\"")?,
        case(Request::delete(format!("{base}/")), 200, "by method")?,
        case(get("/?u=1&V=2"), 200, "by query")?,
        case(get("/?u=1&v=3"), 200, "\"replica\"")?,
        case(get("/old/things?a=b").header("host", "shop.test"), 301, "https://shop.test/new?a=b")?,
        case(get("/outside"), 200, "by source")?,
        case(get("/teapot").header("x-beta", "1"), 418, "short and stout")?,
    ])
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn target_groups_get_their_share_by_weight() -> Result<()> {
    with_namespace("weights", async |ns| {
        let mut next = named(web(&ns.environment.demo_app_image)?, "next");
        next.spec.scaling.min = 1;
        let mut next_group = named(web_group()?, "next");
        next_group.spec.targets.replica_service.as_mut().context("replicaService")?.name = "next".into();
        ns.apply(&next).await?;
        ns.apply(&next_group).await?;
        let both = action("{forward: {targetGroups: [{name: web, weight: 80}, {name: next, weight: 20}]}}")?;
        let port = ns
            .serve_web_by(1, |shop| {
                shop.spec.listeners.iter_mut().for_each(|l| l.default_action.clone_from(&both));
            })
            .await?;
        ns.until_healthy("next", 1).await?;
        let load = port.load(Pace::Connections(2));
        load.further(2_000).await?;
        let tally = load.succeeded().await?;
        let to_next: u64 =
            tally.by_replica.iter().filter(|(name, _)| name.starts_with("next-")).map(|(_, n)| n).sum();
        let percent = to_next as f64 / tally.requests as f64 * 100.0;
        ensure!((15.0..25.0).contains(&percent), "{percent:.1} % instead of 20 %: {tally}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_edited_rule_is_in_force_once_the_load_balancer_says_programmed() -> Result<()> {
    with_namespace("edit", async |ns| {
        let port = ns.serve_web(1).await?;
        for body in ["one", "two", "three"] {
            ns.apply(&answering(port.number, body)?).await?;
            ns.until_programmed("shop").await?;
            let answer = http::get(&port.url("/")).await?;
            ensure!(answer.body() == body, "{answer:?}");
        }
        Ok(())
    })
    .await
}
