use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_proxy_api::delta::updates;
use evenkeel_proxy_api::proto::push_server::{Push, PushServer};
use evenkeel_proxy_api::report::{Ack, Rejection, ResourceKind};
use evenkeel_proxy_api::snapshot::{Snapshot, Target, Version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Identity, Server, ServerTlsConfig};
use tonic::{Response, Status};

use super::*;
use crate::in_force::Core;
use crate::table::Table;

/// Sockets that bind nothing, but refuse a listener called `taken`.
struct NoSockets;

impl Reconcile for NoSockets {
    async fn reconcile(&self, table: Arc<Table>) -> Vec<Rejection> {
        let taken = table.listeners.keys().filter(|name| *name == "taken");
        let rejection = |name: &String| Rejection {
            kind: ResourceKind::Listener,
            name: name.clone(),
            reason: "port 80: address in use".into(),
        };
        taken.map(rejection).collect()
    }

    fn open(&self) -> Vec<Arc<crate::table::Listener>> {
        Vec::new()
    }
}

/// Reaches the test's operator without TLS.
struct PlainDial {
    address: SocketAddr,
    attempts: Arc<AtomicUsize>,
}

impl Dial for PlainDial {
    async fn channel(&self) -> Result<Channel, DialError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        Ok(dial::endpoint(format!("http://{}", self.address).parse().unwrap()).connect().await?)
    }

    async fn trust(&self) -> Result<Trust, DialError> {
        Ok(Trust::default())
    }

    async fn token(&self) -> Result<String, DialError> {
        Ok("secret".into())
    }
}

/// A stream as the operator sees it.
struct Stream {
    authorization: String,
    from_proxy: Streaming<proto::FromProxy>,
    to_proxy: mpsc::UnboundedSender<Result<proto::Update, Status>>,
}

impl Stream {
    fn send(&self, previous: Option<&Snapshot>, next: &Snapshot) {
        for update in updates(previous, next) {
            self.to_proxy.send(Ok(update)).unwrap();
        }
    }

    async fn next(&mut self) -> FromProxy {
        self.from_proxy.message().await.unwrap().unwrap().try_into().unwrap()
    }

    async fn trust(&mut self) -> Trust {
        loop {
            if let FromProxy::Trust(trust) = self.next().await {
                return trust;
            }
        }
    }

    async fn ack(&mut self) -> Ack {
        loop {
            if let FromProxy::Ack(ack) = self.next().await {
                return ack;
            }
        }
    }
}

/// Hands each stream to the test.
struct Operator {
    streams: mpsc::UnboundedSender<Stream>,
}

#[tonic::async_trait]
impl Push for Operator {
    type ConnectStream = UnboundedReceiverStream<Result<proto::Update, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::FromProxy>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let (to_proxy, updates) = mpsc::unbounded_channel();
        self.streams.send(Stream { authorization, from_proxy: request.into_inner(), to_proxy }).unwrap();
        Ok(Response::new(UnboundedReceiverStream::new(updates)))
    }
}

/// Starts an operator, and hands out the streams that it is asked for.
async fn operator(mut server: Server) -> (SocketAddr, mpsc::UnboundedReceiver<Stream>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, streams) = mpsc::unbounded_channel();
    let server = server.add_service(PushServer::new(Operator { streams: sender }));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(socket)));
    (address, streams)
}

struct Scene {
    core: Arc<Core>,
    metrics: Arc<Metrics>,
    streams: mpsc::UnboundedReceiver<Stream>,
    attempts: Arc<AtomicUsize>,
}

impl Scene {
    async fn new() -> Self {
        let (address, streams) = operator(Server::builder()).await;
        let attempts = Arc::default();
        Self::dialling(PlainDial { address, attempts: Arc::clone(&attempts) }, attempts, streams)
    }

    fn dialling(
        dial: impl Dial,
        attempts: Arc<AtomicUsize>,
        streams: mpsc::UnboundedReceiver<Stream>,
    ) -> Self {
        let (core, metrics) = (Arc::new(Core::default()), Arc::new(Metrics::default()));
        let applier = Arc::new(Applier::new(Arc::clone(&core), NoSockets, Arc::clone(&metrics)));
        tokio::spawn(Control::new(dial, applier, Arc::clone(&metrics)).run(fastrand::Rng::with_seed(1)));
        Self { core, metrics, streams, attempts }
    }

    async fn stream(&mut self) -> (Stream, Hello) {
        let mut stream = timeout(Duration::from_secs(20), self.streams.recv()).await.unwrap().unwrap();
        match stream.next().await {
            FromProxy::Hello(hello) => (stream, hello),
            other => panic!("{other:?} before hello"),
        }
    }
}

fn snapshot(counter: u64, listeners: &str) -> Snapshot {
    let text = format!(
        "{{version: {{epoch: 1, counter: {counter}}}, listeners: {listeners},
           targetGroups: {{api: {{targets: [{{id: a, address: 10.0.0.1, port: 80}}]}}}}}}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

const HTTP: &str = "{http: {port: 80, defaultAction: {forward: {targetGroups: [{name: api}]}}}}";

#[tokio::test]
async fn what_is_pushed_is_applied_and_acknowledged_and_reports_follow() {
    let mut scene = Scene::new().await;
    let (mut stream, hello) = scene.stream().await;
    assert_eq!(stream.authorization, "bearer secret");
    assert_eq!(hello.applied, None);
    let first = snapshot(1, HTTP);
    stream.send(None, &first);
    assert_eq!(stream.ack().await, Ack { version: first.version, rejections: vec![] });
    assert!(scene.core.table().listeners.contains_key("http"));
    assert_eq!(scene.metrics.control_connected.get(), 1);
    assert_eq!(scene.metrics.snapshot_counter.get(), 1);

    let FromProxy::Report(report) = stream.next().await else { panic!("no report") };
    assert_eq!((report.version, report.targets.len()), (first.version, 1));
    let FromProxy::Report(report) = stream.next().await else { panic!("no report") };
    assert!(report.targets.is_empty(), "nothing changed");

    let second = snapshot(2, HTTP);
    stream.send(Some(&first), &second);
    assert_eq!(stream.ack().await.version, second.version);
}

#[tokio::test]
async fn the_beginning_of_a_drain_is_reported_before_the_next_version_is_looked_at() {
    let mut scene = Scene::new().await;
    let (mut stream, _) = scene.stream().await;
    let mut versions = vec![snapshot(1, HTTP)];
    for counter in 2..=4 {
        let mut next = snapshot(counter, HTTP);
        let targets = &mut next.target_groups.get_mut("api").unwrap().targets;
        let template = targets[0].clone();
        let drains = |n: u64| Target {
            id: format!("d{n}"),
            drain: Some(Duration::from_secs(300)),
            ..template.clone()
        };
        targets.extend((2..=counter).map(drains));
        versions.push(next);
    }
    stream.send(None, &versions[0]);
    stream.ack().await;
    for pair in versions.windows(2) {
        stream.send(Some(&pair[0]), &pair[1]);
    }
    for version in &versions[1..] {
        assert_eq!(stream.ack().await.version, version.version);
        let FromProxy::Report(report) = stream.next().await else {
            panic!("no report of {:?}", version.version)
        };
        assert_eq!(report.version, version.version);
    }
}

#[tokio::test]
async fn what_cannot_be_applied_is_named_and_the_rest_is_in_force() {
    let mut scene = Scene::new().await;
    let (mut stream, _) = scene.stream().await;
    let listeners = "{taken: {port: 80, defaultAction: {forward: {targetGroups: [{name: api}]}}},
                      lost: {port: 81, defaultAction: {forward: {targetGroups: [{name: nowhere}]}}},
                      fine: {port: 82, defaultAction: {forward: {targetGroups: [{name: api}]}}}}";
    stream.send(None, &snapshot(1, listeners));
    let reasons: Vec<_> = stream.ack().await.rejections.into_iter().map(|r| (r.name, r.reason)).collect();
    let expected =
        [("lost", "defaultAction: there is no target group nowhere"), ("taken", "port 80: address in use")];
    assert_eq!(reasons, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    assert!(scene.core.table().listeners.contains_key("fine"));
}

#[tokio::test]
async fn when_a_stream_ends_another_begins_and_what_is_in_force_stays() {
    let mut scene = Scene::new().await;
    let (mut stream, _) = scene.stream().await;
    let first = snapshot(1, HTTP);
    stream.send(None, &first);
    stream.ack().await;
    stream.to_proxy.send(Err(Status::unavailable("not the leader"))).unwrap();
    let (mut stream, hello) = scene.stream().await;
    assert_eq!(hello.applied, Some(first.version));
    assert!(scene.core.table().listeners.contains_key("http"));
    stream.send(None, &first);
    assert_eq!(stream.ack().await.version, first.version);
}

#[tokio::test]
async fn a_former_leader_is_left() {
    let mut scene = Scene::new().await;
    let (mut stream, _) = scene.stream().await;
    let leader = Snapshot { version: Version { epoch: 7, counter: 1 }, ..snapshot(1, HTTP) };
    stream.send(None, &leader);
    stream.ack().await;
    drop(stream);
    let (stream, _) = scene.stream().await;
    stream.send(None, &snapshot(99, "{}"));
    let (_stream, hello) = scene.stream().await;
    assert_eq!(hello.applied, Some(leader.version));
    assert!(scene.core.table().listeners.contains_key("http"));
    assert!(scene.attempts.load(Ordering::SeqCst) >= 3);
}

/// A certificate authority, and a server's certificate that it signed.
struct Authority {
    certificate: String,
    server: Identity,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let server = params.signed_by(&key, &issuer).unwrap().pem();
        Self { certificate, server: Identity::from_pem(server, key.serialize_pem()) }
    }
}

#[tokio::test]
async fn only_an_operator_whose_certificate_the_ca_signed_gets_the_token_and_renewed_files_are_read() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = ServerTlsConfig::new().identity(authority.server);
    let (address, streams) = operator(Server::builder().tls_config(tls).unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let (ca, token) = (directory.path().join("ca.crt"), directory.path().join("token"));
    std::fs::write(&ca, stranger.certificate).unwrap();
    std::fs::write(&token, "before\n").unwrap();
    let url = format!("https://localhost:{}", address.port());
    let dial = dial::TlsDial::new(&url, ca.clone(), token.clone()).unwrap();
    let refused = dial.channel().await.unwrap_err().to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    let mut scene = Scene::dialling(dial, Arc::default(), streams);
    std::fs::write(&token, "after\n").unwrap();
    std::fs::write(&ca, authority.certificate).unwrap();
    let (mut stream, _) = scene.stream().await;
    assert_eq!(stream.authorization, "bearer after");
    stream.send(None, &snapshot(1, HTTP));
    assert_eq!(stream.ack().await.version.counter, 1);
}

#[tokio::test]
async fn the_operator_hears_whom_the_proxy_trusts_and_hears_it_again_when_the_file_changes() {
    let (authority, next) = (Authority::new(), Authority::new());
    let tls = ServerTlsConfig::new().identity(authority.server);
    let (address, streams) = operator(Server::builder().tls_config(tls).unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let (ca, token) = (directory.path().join("ca.crt"), directory.path().join("token"));
    std::fs::write(&ca, &authority.certificate).unwrap();
    std::fs::write(&token, "token").unwrap();
    let url = format!("https://localhost:{}", address.port());
    let dial = dial::TlsDial::new(&url, ca.clone(), token).unwrap();
    let mut scene = Scene::dialling(dial, Arc::default(), streams);
    let (mut stream, _) = scene.stream().await;
    assert_eq!(stream.trust().await, Trust::of(authority.certificate.as_bytes()));

    let both = authority.certificate + &next.certificate;
    std::fs::write(&ca, &both).unwrap();
    let told = timeout(Duration::from_secs(10), stream.trust()).await.unwrap();
    assert_eq!((told.authorities.len(), told), (2, Trust::of(both.as_bytes())));
}

/// Passes bytes on to an address, until it falls silent without closing anything.
async fn wire(to: SocketAddr, silent: watch::Receiver<bool>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = socket.accept().await.unwrap();
            let mut silent = silent.clone();
            silent.borrow_and_update();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = silent.changed() => std::future::pending().await,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn an_operator_that_falls_silent_is_left_within_five_seconds() {
    let (operator, streams) = operator(Server::builder()).await;
    let (silence, silent) = watch::channel(false);
    let address = wire(operator, silent).await;
    let attempts = Arc::default();
    let mut scene =
        Scene::dialling(PlainDial { address, attempts: Arc::clone(&attempts) }, attempts, streams);
    let (mut stream, _) = scene.stream().await;
    stream.send(None, &snapshot(1, HTTP));
    stream.ack().await;
    silence.send_replace(true);
    let noticed = timeout(Duration::from_secs(5), scene.stream());
    let (_stream, hello) = noticed.await.unwrap();
    assert_eq!(hello.applied, Some(Version { epoch: 1, counter: 1 }));
}
