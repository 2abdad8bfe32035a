use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_proxy_api::proto::push_client::PushClient;
use evenkeel_proxy_api::proto::{self, FromProxy, Update};
use evenkeel_proxy_api::report;
use evenkeel_proxy_api::trust::Trust;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry as Metrology;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use super::*;
use crate::auth::{self, Authenticate, PodIdentity};
use crate::ca::{BUNDLE, PUSH_SERVICE, publish};
use crate::fake;
use crate::push::publisher::tests::{accepted, key, target};
use crate::push::{self, Publisher, Service};
use crate::registry::Registry;
use crate::world::Writers;

const PATIENCE: Duration = Duration::from_secs(20);
const SYSTEM: &str = "evenkeel-system";

/// What the API server keeps.
#[derive(Default)]
struct Cluster {
    secret: Option<Value>,
    version: u64,
    /// The bundle in namespace `default`.
    bundle: String,
    /// Reasons and notes.
    events: Vec<(String, String)>,
    /// How often the Secret was read.
    looks: u64,
    /// So many writes to the Secret come second to somebody else's.
    conflicts: usize,
}

impl Cluster {
    fn answer(&mut self, asked: &fake::Asked) -> (u16, Value) {
        let verb = asked.what.split(' ').next().unwrap();
        if asked.what.contains("/events") {
            let text = |field: &str| asked.body[field].as_str().unwrap_or_default().to_owned();
            self.events.push((text("reason"), text("note")));
            return (201, asked.body.clone());
        }
        if asked.what.contains("/configmaps/") {
            return self.config_map(verb, &asked.body);
        }
        match verb {
            "GET" => {
                self.looks += 1;
                match &self.secret {
                    Some(secret) => (200, secret.clone()),
                    None => fake::refusal(404, "NotFound", "not found"),
                }
            }
            "PUT" if self.conflicts > 0 => {
                self.conflicts -= 1;
                fake::refusal(409, "Conflict", "changed")
            }
            "PUT" if self.written() != Some(&asked.body["metadata"]["resourceVersion"]) => {
                fake::refusal(409, "Conflict", "changed")
            }
            _ => (200, self.write(asked.body.clone())),
        }
    }

    fn config_map(&mut self, verb: &str, body: &Value) -> (u16, Value) {
        if verb == "PATCH" {
            self.bundle = body["data"][BUNDLE].as_str().unwrap().to_owned();
        }
        (200, json!({"metadata": {"name": "evenkeel-ca"}, "data": {BUNDLE: self.bundle}}))
    }

    fn write(&mut self, mut secret: Value) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        secret["metadata"]["namespace"] = SYSTEM.into();
        self.secret = Some(secret.clone());
        secret
    }

    fn written(&self) -> Option<&Value> {
        Some(&self.secret.as_ref()?["metadata"]["resourceVersion"])
    }

    fn wish(&mut self) {
        let mut secret = self.secret.clone().unwrap();
        secret["metadata"]["annotations"] = json!({ROTATE: "the key leaked"});
        self.write(secret);
    }

    fn authorities(&self) -> Authorities {
        let secret = serde_json::from_value(self.secret.clone().unwrap()).unwrap();
        Authorities::read(&secret).unwrap()
    }

    fn has_event(&self, reason: &str, part: &str) -> bool {
        self.events.iter().any(|(said, note)| said == reason && note.contains(part))
    }
}

/// Takes the token for the pod's name.
struct ByName;

#[tonic::async_trait]
impl Authenticate for ByName {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, auth::Error> {
        Ok(PodIdentity { namespace: "default".into(), name: token.into(), uid: format!("uid-{token}") })
    }
}

/// A cluster with proxies `a` and `b` of balancer `shop`, and a publisher that operators share.
struct Scene {
    cluster: watch::Sender<Cluster>,
    client: Client,
    world: Arc<World>,
    publisher: Arc<Publisher>,
    state: Arc<PushState>,
    registry: Arc<Registry>,
    _writers: Writers,
}

impl Scene {
    fn new() -> Self {
        let cluster = watch::Sender::new(Cluster::default());
        let server = cluster.clone();
        let (client, _log) = fake::client(move |asked| {
            let mut answer = (500, Value::Null);
            server.send_modify(|cluster| answer = cluster.answer(asked));
            answer
        });
        let (world, mut writers) = World::new();
        list(&mut writers.proxies, ["a", "b"].map(proxy_pod));
        list(&mut writers.replicas, []);
        list(&mut writers.slices, []);
        list(&mut writers.services, []);
        list(&mut writers.nodes, []);
        list(&mut writers.deployments, []);
        list(&mut writers.replica_sets, []);
        let registry = Arc::new(Registry::default());
        let (world, state) = (Arc::new(world), Arc::<PushState>::default());
        let publisher = Arc::new(Publisher::new(1, state.clone(), Arc::default(), Arc::default()));
        let scene = Self { cluster, client, world, publisher, state, registry, _writers: writers };
        scene.publish("first");
        scene
    }

    /// Publishes a version with one target.
    fn publish(&self, target_id: &str) {
        let accepted = accepted(1, vec![target(target_id, None)]);
        self.registry.write(|held| {
            *held = accepted.clone();
            true
        });
        self.world.pulse().beat(None);
        self.publisher.publish(&accepted, &self.world, &self.world.pulse().take());
    }

    /// An operator that begins to lead.
    async fn operator(&self, pace: Pace) -> Operator {
        let secrets = Api::namespaced(self.client.clone(), SYSTEM);
        let keeper = Keeper::load(secrets, SYSTEM, Timestamp::now()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut metrology = Metrology::default();
        let service = Service {
            publisher: self.publisher.clone(),
            world: self.world.clone(),
            authenticator: Arc::new(ByName),
            metrics: push::Metrics::register(&mut metrology),
            stop: CancellationToken::new(),
        };
        let events = Events::new(self.client.clone(), "o", crate::metrics::Metrics::register(&mut metrology));
        let around = Around {
            world: self.world.clone(),
            state: self.state.clone(),
            events: Arc::new(events),
            metrics: Metrics::register(&mut metrology),
            pace,
        };
        let mut parts = JoinSet::new();
        parts.spawn(push::serve(listener, keeper.serving(), service));
        parts.spawn(publish(self.client.clone(), self.registry.clone(), keeper.bundle()));
        parts.spawn(keep(keeper, around));
        Operator { address, _parts: parts }
    }

    /// Waits until the cluster is so.
    async fn until(&self, holds: impl Fn(&Cluster) -> bool) {
        let mut cluster = self.cluster.subscribe();
        let found = timeout(PATIENCE, cluster.wait_for(holds)).await;
        assert!(found.is_ok(), "{:?}", self.cluster.borrow().events);
    }

    /// A proxy says that its file has this bundle, and is heard.
    async fn says(&self, proxy: &Proxy, uid: &str, bundle: &str) {
        let trust = Trust::of(bundle.as_bytes());
        let told = trust.authorities.clone();
        proxy.out.send(report::FromProxy::Trust(trust).into()).await.unwrap();
        let heard = async {
            while !told.iter().all(|authority| self.state.trusts(&key("shop"), uid, authority)) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, heard).await.unwrap();
    }

    /// Waits until the keeper has looked again, after all that was said before.
    async fn until_looked(&self) {
        let looks = self.cluster.borrow().looks;
        self.until(|cluster| cluster.looks >= looks + 2).await;
    }

    fn bundle(&self) -> String {
        self.cluster.borrow().bundle.clone()
    }
}

struct Operator {
    address: SocketAddr,
    _parts: JoinSet<&'static str>,
}

impl Operator {
    /// A proxy that has this bundle in its file.
    async fn dial(&self, name: &str, bundle: &str) -> Result<Proxy, tonic::transport::Error> {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(PUSH_SERVICE);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address))?.tls_config(tls)?;
        let mut client = PushClient::new(endpoint.connect().await?);
        let (out, messages) = mpsc::channel(4);
        let hello = report::FromProxy::Hello(report::Hello::default());
        out.send(hello.into()).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", format!("Bearer {name}").parse().unwrap());
        let updates = client.connect(request).await.unwrap().into_inner();
        let mut proxy = Proxy { updates, out };
        assert_eq!(proxy.update().await, "first");
        Ok(proxy)
    }
}

/// A proxy's stream.
struct Proxy {
    updates: Streaming<Update>,
    out: mpsc::Sender<FromProxy>,
}

impl Proxy {
    /// The target in the next version.
    async fn update(&mut self) -> String {
        let update = timeout(PATIENCE, self.updates.message()).await.unwrap().unwrap().unwrap();
        let mut targets =
            update.target_groups.into_iter().flat_map(|group: proto::TargetGroup| group.targets);
        targets.next().unwrap().id
    }
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

fn proxy_pod(name: &str) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-proxy-1", "uid": "rs", "controller": true});
    let labels = json!({"evenkeel.dev/load-balancer": "shop"});
    let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels, "ownerReferences": [owner]});
    serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Running"}})).unwrap()
}

/// Each step as soon as it may be, and no waiting in vain.
fn quick() -> Pace {
    Pace {
        look: Duration::from_millis(10),
        settle: Duration::ZERO,
        remind: Duration::ZERO,
        patience: Duration::from_secs(3600),
    }
}

#[tokio::test]
async fn streams_outlive_a_rotation_and_whoever_connects_afterwards_needs_the_new_authority_alone() {
    let scene = Scene::new();
    let operator = scene.operator(quick()).await;
    scene.until(|cluster| !cluster.bundle.is_empty()).await;
    let old = scene.bundle();
    let (mut a, mut b) = (operator.dial("a", &old).await.unwrap(), operator.dial("b", &old).await.unwrap());
    scene.says(&a, "uid-a", &old).await;
    scene.says(&b, "uid-b", &old).await;

    scene.cluster.send_modify(|cluster| {
        cluster.conflicts = 1;
        cluster.wish();
    });
    scene.until(|cluster| cluster.bundle.matches("BEGIN").count() == 2).await;
    let both = scene.bundle();
    scene.until(|cluster| cluster.has_event("RotationWaits", "2 missing: default/a, default/b")).await;
    scene.says(&a, "uid-a", &both).await;
    scene.until_looked().await;
    assert_eq!(scene.cluster.borrow().authorities().phase(), Phase::Published, "b is waited for");
    assert!(operator.dial("b", &old).await.is_ok(), "who trusts the old one alone is served until then");

    scene.says(&b, "uid-b", &both).await;
    scene.until(|cluster| cluster.bundle.matches("BEGIN").count() == 1 && cluster.bundle != old).await;
    let new = scene.bundle();
    let refused = operator.dial("b", &old).await.err().map(|error| format!("{error:?}"));
    assert!(refused.is_some_and(|error| error.contains("InvalidCertificate")));
    assert!(operator.dial("b", &both).await.is_ok(), "the former one is not in the way");
    let mut late = operator.dial("b", &new).await.unwrap();
    scene.publish("second");
    for proxy in [&mut a, &mut b, &mut late] {
        assert_eq!(proxy.update().await, "second", "a stream that was open all the time");
    }

    scene.until(|cluster| cluster.has_event("RotationCompleted", "")).await;
    let cluster = scene.cluster.borrow();
    for reason in ["RotationStarted", "Rotated"] {
        assert!(cluster.has_event(reason, ""), "{reason}: {:?}", cluster.events);
    }
    let secret = cluster.secret.as_ref().unwrap();
    let keys: BTreeMap<String, Value> = serde_json::from_value(secret["data"].clone()).unwrap();
    assert_eq!(keys.into_keys().collect::<Vec<_>>(), ["tls.crt", "tls.key"]);
    assert!(secret["metadata"]["annotations"].get(ROTATE).is_none(), "the wish is granted");
}

#[tokio::test]
async fn the_next_leader_goes_on_and_after_long_enough_without_those_that_say_nothing() {
    let scene = Scene::new();
    let operator = scene.operator(quick()).await;
    scene.until(|cluster| !cluster.bundle.is_empty()).await;
    let _a = operator.dial("a", &scene.bundle()).await.unwrap();
    scene.cluster.send_modify(Cluster::wish);
    scene.until(|cluster| cluster.has_event("RotationStarted", "")).await;
    let next = scene.cluster.borrow().authorities().next.unwrap();
    drop(operator);

    let _operator = scene.operator(Pace { patience: Duration::ZERO, ..quick() }).await;
    scene.until(|cluster| cluster.has_event("RotatedWithout", "2 missing: default/a, default/b")).await;
    scene.until(|cluster| cluster.has_event("RotationCompleted", "")).await;
    assert!(scene.cluster.borrow().authorities().current == next, "the one that was published");
}

#[tokio::test]
async fn a_secret_that_is_deleted_is_put_back_as_it_was() {
    let scene = Scene::new();
    let _operator = scene.operator(quick()).await;
    let before = scene.cluster.borrow().authorities();
    scene.cluster.send_modify(|cluster| cluster.secret = None);
    scene.until(|cluster| cluster.secret.is_some()).await;
    assert!(scene.cluster.borrow().authorities() == before);
    assert!(scene.cluster.borrow().events.is_empty(), "nothing changed");
}

#[tokio::test]
async fn a_damaged_secret_changes_nothing_and_is_whole_again_once_it_is_deleted() {
    let scene = Scene::new();
    let operator = scene.operator(quick()).await;
    scene.until(|cluster| !cluster.bundle.is_empty()).await;
    let before = scene.cluster.borrow().authorities();
    scene.cluster.send_modify(|cluster| {
        let mut secret = cluster.secret.clone().unwrap();
        secret["data"]["tls.key"] = "bm90aGluZw==".into();
        cluster.write(secret);
    });
    scene.until_looked().await;
    assert!(operator.dial("a", before.current.certificate()).await.is_ok());
    assert_eq!(scene.bundle(), before.bundle());
    scene.cluster.send_modify(|cluster| cluster.secret = None);
    scene.until(|cluster| cluster.secret.is_some()).await;
    assert!(scene.cluster.borrow().authorities() == before);
}

#[tokio::test]
async fn a_serving_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let scene = Scene::new();
    let day = |days: i64| Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap();
    let secrets = Api::namespaced(scene.client.clone(), SYSTEM);
    let mut keeper = Keeper::load(secrets, SYSTEM, day(0)).await.unwrap();
    for (case, now, expires) in [
        ("new", 0, 30),
        ("two thirds are nearly over", 19, 30),
        ("a third is left", 20, 50),
        ("the clock is set back", 10, 40),
        ("the operator was suspended", 100, 130),
        ("the last one of its authority", 3640, 3650),
        ("there is nothing longer", 3645, 3650),
    ] {
        keeper.sign(day(now)).unwrap();
        assert_eq!(keeper.signed.1, day(expires), "{case}, on day {now}");
    }
}
