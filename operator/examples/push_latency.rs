//! From the event of a pod to the last proxy's acknowledgement, over real gRPC and TLS on loopback.
//!
//! `cargo run --release -p evenkeel-operator --example push_latency -- [EVENTS] [PROXIES] [ENDPOINTS]`
//!
//! Exits with 1 when the 99th percentile is not below 100 ms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use evenkeel_operator::auth::{self, Authenticate, PodIdentity};
use evenkeel_operator::ca::{Authority, PUSH_SERVICE};
use evenkeel_operator::object_key::ObjectKey;
use evenkeel_operator::push::{self, Publisher, PushState, Service, Serving};
use evenkeel_operator::registry::{Port, Registry, TargetSource, ValidLoadBalancer, ValidTargetGroup};
use evenkeel_operator::world::{World, Writers};
use evenkeel_proxy_api::proto::push_client::PushClient;
use evenkeel_proxy_api::proto::{self, from_proxy::Message};
use evenkeel_proxy_api::snapshot::{
    Action, Algorithm, HealthCheck, Limits, Listener, ListenerProtocol, TargetProtocol, WeightedTargetGroup,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use prometheus_client::registry as prometheus;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

const GOAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes the token for the pod's name.
struct Trusting;

#[tonic::async_trait]
impl Authenticate for Trusting {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, auth::Error> {
        Ok(PodIdentity { namespace: "default".into(), name: token.into(), uid: format!("uid-{token}") })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse::<usize>());
    let mut size = |default| sizes.next().unwrap_or(Ok(default)).context("sizes are numbers");
    let (events, proxies, endpoints) = (size(500)?, size(10)?, size(1000)?);
    let mut latencies = measure(events, proxies, endpoints).await?;
    latencies.sort_unstable();
    let percentile =
        |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
    let worst = latencies.last().copied().unwrap_or_default();
    println!(
        "pod event → last ack: {events} events, {proxies} proxies, {endpoints} endpoints: \
         p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, worst {worst:.1?}",
        percentile(50),
        percentile(90),
        percentile(99),
    );
    ensure!(percentile(99) < GOAL, "the 99th percentile is not below {GOAL:?}");
    Ok(())
}

async fn measure(events: usize, proxies: usize, endpoints: usize) -> anyhow::Result<Vec<Duration>> {
    let (world, mut writers) = filled_world(proxies, endpoints);
    let world = Arc::new(world);
    let state = Arc::<PushState>::default();
    let publisher = Arc::new(Publisher::new(1, state.clone(), Arc::default(), Arc::default()));
    let registry = Arc::new(filled_registry());
    tokio::spawn(push::publish(publisher.clone(), world.clone(), registry));
    connect_all(&publisher, &world, proxies).await?;
    settle(&publisher, &state, proxies, 1).await?;
    let mut latencies = Vec::with_capacity(events);
    for event in 0..events {
        // Nobody waits for the end of the coalescing window before something happens.
        sleep(Duration::from_micros(fastrand::u64(0..40_000))).await;
        let before = published(&publisher);
        let began = Instant::now();
        let at = fastrand::usize(..endpoints);
        writers.replicas.apply_watcher_event(&Event::Apply(replica(at, event + 2)));
        world.pulse().beat(Some("default"));
        settle(&publisher, &state, proxies, before + 1).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

fn published(publisher: &Publisher) -> u64 {
    let current = publisher.subscribe(&ObjectKey::new("default", "shop")).borrow().clone();
    current.map_or(0, |published| published.snapshot.version.counter)
}

/// Waits until every proxy acknowledged version `counter`.
async fn settle(
    publisher: &Publisher,
    state: &PushState,
    proxies: usize,
    counter: u64,
) -> anyhow::Result<()> {
    let key = ObjectKey::new("default", "shop");
    let settled = async {
        loop {
            let views = state.proxies(&key);
            let done =
                |view: &push::ProxyView| view.applied.is_some_and(|version| version.counter >= counter);
            if views.len() == proxies && views.iter().all(done) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let late = || format!("version {counter} was not acknowledged; {} is published", published(publisher));
    timeout(PATIENCE, settled).await.with_context(late)
}

async fn connect_all(publisher: &Arc<Publisher>, world: &Arc<World>, proxies: usize) -> anyhow::Result<()> {
    let authority = Authority::generate(Timestamp::now())?;
    let serving = Serving::new(authority.sign("default", Timestamp::now())?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = Service {
        publisher: publisher.clone(),
        world: world.clone(),
        authenticator: Arc::new(Trusting),
        metrics: push::Metrics::register(&mut prometheus::Registry::default()),
        stop: CancellationToken::new(),
    };
    tokio::spawn(push::serve(listener, Arc::new(serving), service));
    for proxy in 0..proxies {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.certificate()))
            .domain_name(PUSH_SERVICE);
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
        let client = PushClient::new(endpoint.connect().await?);
        tokio::spawn(acknowledge(client, proxy));
    }
    Ok(())
}

/// A proxy that takes over whatever comes.
async fn acknowledge(
    mut client: PushClient<tonic::transport::Channel>,
    proxy: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (out, messages) = mpsc::channel(16);
    let send = |message| proto::FromProxy { message: Some(message) };
    out.send(send(Message::Hello(proto::Hello { applied: None, software: "bench".into() }))).await?;
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", format!("Bearer proxy-{proxy}").parse()?);
    let mut updates = client.connect(request).await?.into_inner();
    while let Some(update) = updates.message().await? {
        if update.last {
            let ack = proto::Ack { version: update.version, rejections: Vec::new() };
            out.send(send(Message::Ack(ack))).await?;
        }
    }
    Ok(())
}

fn filled_world(proxies: usize, endpoints: usize) -> (World, Writers) {
    let (world, mut writers) = World::new();
    let proxy =
        |at| pod(&format!("proxy-{at}"), "shop-proxy-1", ("evenkeel.dev/load-balancer", "shop"), "10.1.0.1");
    list(&mut writers.proxies, (0..proxies).map(proxy));
    list(&mut writers.replicas, (0..endpoints).map(|at| replica(at, 0)));
    list(&mut writers.slices, []);
    list(&mut writers.services, []);
    list(&mut writers.nodes, []);
    list(&mut writers.deployments, []);
    list(&mut writers.replica_sets, []);
    (world, writers)
}

/// What a watch does first.
fn list<K>(writer: &mut Writer<K>, objects: impl IntoIterator<Item = K>)
where
    K: kube::Resource<DynamicType = ()> + Clone,
{
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

/// A replica that moved to another node with each change: no two changes are alike.
fn replica(at: usize, change: usize) -> Pod {
    let address = format!("10.2.{}.{}", at / 250, at % 250);
    let mut pod = pod(&format!("api-{at}"), "api-1", ("evenkeel.dev/replica-service", "api"), &address);
    pod.spec.get_or_insert_default().node_name = Some(format!("node-{change}"));
    pod
}

fn pod(name: &str, replica_set: &str, (label, of): (&str, &str), address: &str) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": "rs", "controller": true});
    let pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {label: of},
            "ownerReferences": [owner],
        },
        "spec": {"containers": [], "nodeName": "node"},
        "status": {"phase": "Running", "podIP": address, "conditions": [
            {"type": "ContainersReady", "status": "True"},
        ]},
    });
    serde_json::from_value(pod).unwrap_or_default()
}

fn filled_registry() -> Registry {
    let key = |name| ObjectKey::new("default", name);
    let listener = Listener {
        port: 80,
        protocol: ListenerProtocol::Http,
        allowed_sources: Vec::new(),
        idle_timeout: Duration::from_secs(60),
        limits: Limits::default(),
        rules: Vec::new(),
        default_action: Action::Forward {
            target_groups: vec![WeightedTargetGroup { name: "api".into(), weight: 1 }],
        },
    };
    let balancer = ValidLoadBalancer {
        key: key("shop"),
        uid: "uid".into(),
        generation: 1,
        listeners: BTreeMap::from([("http".into(), listener)]),
    };
    let group = ValidTargetGroup {
        key: key("api"),
        generation: 1,
        protocol: TargetProtocol::Http,
        algorithm: Algorithm::RoundRobin,
        health_check: HealthCheck::default(),
        deregistration_delay: Duration::from_secs(300),
        source: TargetSource::ReplicaService { name: "api".into(), port: Port::Number(8080) },
        deleting: false,
    };
    let registry = Registry::default();
    registry.write(|accepted| {
        accepted.load_balancers.insert(key("shop"), Arc::new(balancer));
        accepted.target_groups.insert(key("api"), Arc::new(group));
        true
    });
    registry.set_complete();
    registry
}
