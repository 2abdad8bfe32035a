use evenkeel_proxy_api::report::Report;
use kube::runtime::watcher::Event;

use super::*;
use crate::fake::{self, Asked, Log};
use crate::object_key::ObjectKey;
use crate::push::publisher::tests as published;
use crate::world::Writers;

struct Fixture {
    search: Search,
    log: Log,
    _writers: Writers,
}

/// Load balancer `shop` with the proxies `a`, which reports, and `b`, which does not; the API server answers with `status`.
fn fixture(status: u16) -> Fixture {
    let (client, log) = fake::client(move |asked: &Asked| match status {
        200 => (
            200,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": []}}),
        ),
        code if asked.what.starts_with("PATCH") => fake::refusal(code, "Unavailable", "not now"),
        _ => (201, json!({})),
    });
    let (world, mut writers) = World::new();
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        writers.proxies.apply_watcher_event(&Event::Apply(proxy(name, ip)));
    }
    let registry = Registry::default();
    registry.write(|accepted| {
        *accepted = published::accepted(1, Vec::new());
        true
    });
    let reports = Reports::default();
    let shop = ObjectKey::new("default", "shop");
    reports.take(&shop, "uid-a", Report::default(), (Instant::now(), Timestamp::now()));
    let search = Search {
        events: Arc::new(Events::uncounted(client.clone())),
        client,
        world: Arc::new(world),
        registry: Arc::new(registry),
        reports: Arc::new(reports),
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
    };
    Fixture { search, log, _writers: writers }
}

fn proxy(name: &str, ip: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "labels": {"evenkeel.dev/load-balancer": "shop"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-proxy-1", "uid": "rs", "controller": true,
            }],
        },
        "spec": {"nodeName": "node2", "containers": []},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn patches(log: &Log) -> Vec<Asked> {
    log.lock().iter().filter(|asked| asked.what.starts_with("PATCH")).cloned().collect()
}

async fn silence(address: SocketAddr) -> bool {
    assert_eq!(address.to_string(), format!("10.0.0.2:{ADMIN_PORT}"), "the other one reports");
    false
}

#[tokio::test]
async fn a_proxy_that_neither_reports_nor_answers_is_made_unready_once_and_that_is_told() {
    let Fixture { search, log, _writers } = fixture(200);
    let mut suspects = Suspects::default();
    search.look(&mut suspects, silence).await;
    assert!(log.lock().is_empty(), "a packet may be lost");
    search.look(&mut suspects, silence).await;
    search.look(&mut suspects, silence).await;
    let patches = patches(&log);
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].what, "PATCH /api/v1/namespaces/default/pods/b/status");
    assert_eq!(patches[0].body["metadata"]["uid"], "uid-b");
    let ready = &patches[0].body["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
    let event = log.lock().last().unwrap().body.clone();
    assert_eq!(
        (&event["reason"], &event["regarding"]["kind"]),
        (&json!("ProxyLost"), &json!("LoadBalancer"))
    );
    assert!(event["note"].as_str().unwrap().starts_with("b on node2 neither reports nor answers"), "{event}");
}

#[tokio::test]
async fn a_proxy_that_is_there_is_left_alone() {
    let Fixture { search, log, _writers } = fixture(200);
    let mut suspects = Suspects::default();
    for _ in 0..3 {
        search.look(&mut suspects, async |_| true).await;
    }
    assert!(log.lock().is_empty());
}

#[tokio::test]
async fn what_kubernetes_did_not_hear_it_is_told_again() {
    let Fixture { search, log, _writers } = fixture(503);
    let mut suspects = Suspects::default();
    for _ in 0..3 {
        search.look(&mut suspects, silence).await;
    }
    assert_eq!(patches(&log).len(), 2, "after the second and the third question");
}

#[tokio::test]
async fn whoever_refuses_a_connection_is_there() {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    for (kind, expected) in [
        (ConnectionRefused, true),
        (ConnectionReset, true),
        (HostUnreachable, false),
        (NetworkUnreachable, false),
        (TimedOut, false),
    ] {
        assert_eq!(answers(&Err(kind.into())), expected, "{kind:?}");
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    assert!(is_there(listener.local_addr().unwrap()).await);
}
