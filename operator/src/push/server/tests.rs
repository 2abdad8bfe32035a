use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_proxy_api::proto::push_client::PushClient;
use evenkeel_proxy_api::proto::{Ack, Hello, Report, TargetReport, Version, from_proxy::Message};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::*;
use crate::auth::PodIdentity;
use crate::ca::{Authority, PUSH_SERVICE};
use crate::push::publisher::tests::{accepted, key, target};
use crate::world::Writers;

const PATIENCE: Duration = Duration::from_secs(10);

/// Takes a token for the pod's name, unless it says `forged`.
struct ByName;

#[tonic::async_trait]
impl Authenticate for ByName {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, auth::Error> {
        if token == "forged" {
            return Err(auth::Error::Refused("it is forged".into()));
        }
        Ok(PodIdentity { namespace: "default".into(), name: token.into(), uid: format!("uid-{token}") })
    }
}

/// A server that publishes balancer `shop`, one of whose proxies is pod `proxy`.
struct Fixture {
    address: SocketAddr,
    endpoint: Endpoint,
    client: PushClient<Channel>,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    stop: CancellationToken,
    _writers: Writers,
}

async fn fixture() -> Fixture {
    let (world, mut writers) = World::new();
    let proxy = json!({"metadata": {
        "name": "proxy", "namespace": "default", "uid": "uid-proxy", "labels": {"evenkeel.dev/load-balancer": "shop"},
    }});
    let proxy: Pod = serde_json::from_value(proxy).unwrap();
    writers.proxies.apply_watcher_event(&Event::Apply(proxy));
    let publisher = Arc::new(Publisher::new(1, Arc::default(), Arc::default(), Arc::default()));
    world.pulse().beat(None);
    let accepted = accepted(1, vec![target("a", None)]);
    publisher.publish(&accepted, &world, &world.pulse().take());
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let stop = CancellationToken::new();
    let service = Service {
        publisher: publisher.clone(),
        world: Arc::new(world),
        authenticator: Arc::new(ByName),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let authority = Authority::generate(Timestamp::now()).unwrap();
    let serving = Serving::new(authority.sign("default", Timestamp::now()).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(serving), service));
    let certificate = Certificate::from_pem(authority.certificate());
    let tls = ClientTlsConfig::new().ca_certificate(certificate).domain_name(PUSH_SERVICE);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    let client = PushClient::new(endpoint.connect().await.unwrap());
    Fixture { address, endpoint, client, publisher, metrics, stop, _writers: writers }
}

impl Fixture {
    /// A stream that begins with `first`, and where to say more.
    async fn connect(
        &mut self,
        token: Option<&str>,
        first: Message,
    ) -> Result<(Streaming<Update>, mpsc::Sender<FromProxy>), Status> {
        let (out, messages) = mpsc::channel(4);
        out.send(FromProxy { message: Some(first) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let answer = timeout(PATIENCE, self.client.connect(request)).await.unwrap()?;
        Ok((answer.into_inner(), out))
    }

    /// Waits until as many streams are open.
    async fn connected(&self, count: usize) {
        let mut changes = Box::pin(self.publisher.state().changes());
        while self.publisher.state().connected() != count {
            timeout(PATIENCE, changes.next()).await.unwrap();
        }
    }
}

fn hello(epoch: u64) -> Message {
    let applied = Version { epoch, counter: 1 };
    Message::Hello(Hello { applied: Some(applied), software: "test".into() })
}

#[tokio::test]
async fn only_proxies_that_prove_who_they_are_get_a_stream() {
    let mut fixture = fixture().await;
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("forged"), Code::Unauthenticated),
        (Some("somebody"), Code::Unavailable),
    ] {
        let refused = fixture.connect(token, hello(0)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{token:?}: {refused}");
    }
    assert_eq!(fixture.metrics.refused.get(), 3);
    assert_eq!(fixture.publisher.state().connected(), 0);
}

#[tokio::test]
async fn streams_end_with_the_term() {
    let mut fixture = fixture().await;
    let (mut updates, out) = fixture.connect(Some("proxy"), hello(0)).await.unwrap();
    let update = timeout(PATIENCE, updates.message()).await.unwrap().unwrap().unwrap();
    let ack = Ack { version: update.version, rejections: Vec::new() };
    out.send(FromProxy { message: Some(Message::Ack(ack)) }).await.unwrap();
    fixture.connected(1).await;
    fixture.stop.cancel();
    let end = timeout(PATIENCE, updates.message()).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    fixture.connected(0).await;
    assert_eq!(fixture.publisher.state().proxies(&key("shop")).len(), 1, "its pod still exists");
}

#[tokio::test]
async fn a_proxy_that_does_not_greet_or_knows_a_later_leader_gets_nothing() {
    let mut fixture = fixture().await;
    let ack = Message::Ack(Ack { version: None, rejections: Vec::new() });
    for (first, code) in [(ack, Code::InvalidArgument), (hello(2), Code::Unavailable)] {
        let (mut updates, _out) = fixture.connect(Some("proxy"), first).await.unwrap();
        let end = timeout(PATIENCE, updates.message()).await.unwrap().unwrap_err();
        assert_eq!(end.code(), code, "{end}");
    }
}

#[tokio::test]
async fn whoever_never_finishes_a_handshake_holds_up_no_proxy() {
    let fixture = fixture().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(fixture.address).await.unwrap());
    }
    let mut nonsense = TcpStream::connect(fixture.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let connected = timeout(PATIENCE, fixture.endpoint.connect()).await.unwrap();
    assert!(connected.is_ok(), "{connected:?}");
}

#[tokio::test]
async fn nonsense_is_counted_and_left_out_and_the_stream_goes_on() {
    let mut fixture = fixture().await;
    let (_updates, out) = fixture.connect(Some("proxy"), hello(0)).await.unwrap();
    fixture.connected(1).await;
    let version = |epoch, counter| Some(Version { epoch, counter });
    let target = |health| TargetReport {
        target_group: "api".into(),
        id: "a".into(),
        health,
        ..TargetReport::default()
    };
    let report = |version, health| {
        Message::Report(Report { version, targets: vec![target(health)], target_groups: Vec::new() })
    };
    let nonsense = [
        None,
        Some(hello(0)),
        Some(Message::Ack(Ack { version: None, rejections: Vec::new() })),
        Some(Message::Ack(Ack { version: version(1, 99), rejections: Vec::new() })),
        Some(Message::Ack(Ack { version: version(0, 1), rejections: Vec::new() })),
        Some(report(version(1, 99), 2)),
        Some(report(version(1, 1), 77)),
    ];
    let expected = nonsense.len() as u64;
    for message in nonsense {
        out.send(FromProxy { message }).await.unwrap();
    }
    out.send(FromProxy { message: Some(report(version(1, 1), 2)) }).await.unwrap();
    let group = key("api");
    let mut changes = Box::pin(fixture.publisher.reports().changes());
    while fixture.publisher.reports().targets(&group, Instant::now()).is_empty() {
        timeout(PATIENCE, changes.next()).await.unwrap();
    }
    assert_eq!((fixture.metrics.nonsense.get(), fixture.metrics.acks.get()), (expected, 0));
    assert_eq!(fixture.publisher.state().proxies(&key("shop"))[0].applied, None);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_stream_before_it_is_read() {
    let mut fixture = fixture().await;
    let (mut updates, out) = fixture.connect(Some("proxy"), hello(0)).await.unwrap();
    let first = timeout(PATIENCE, updates.message()).await.unwrap();
    assert!(first.is_ok(), "{first:?}");
    let flood = TargetReport { description: "x".repeat(MESSAGE_LIMIT), ..TargetReport::default() };
    let report = Report { version: None, targets: vec![flood], target_groups: Vec::new() };
    out.send(FromProxy { message: Some(Message::Report(report)) }).await.unwrap();
    let end = timeout(PATIENCE, updates.message()).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::OutOfRange, "{end}");
    fixture.connected(0).await;
}
