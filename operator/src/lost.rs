//! Proxies that are lost while Kubernetes counts them as ready.
//!
//! A node without power or network is noticed by Kubernetes after 40 s, and until then Services lead new connections to the
//! proxies there. A proxy reports each second: one that falls silent is asked whether it is there, and where nothing comes
//! back Kubernetes is told that the pod is not ready, as its node controller does it in the end (src: `MarkPodsNotReady` in
//! `pkg/controller/util/node/controller_utils.go`). A kubelet that lives knows better, and takes that back.

mod metrics;
mod suspects;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::warn;

use crate::error::request;
use crate::events::Events;
use crate::load_balancer::validate::ADMIN_PORT;
use crate::registry::{Registry, ValidLoadBalancer};
use crate::reports::Reports;
use crate::targets::{condition, merged_condition};
use crate::world::World;

pub use metrics::Metrics;
use suspects::{Proxy, Review, Suspects};

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Within a cluster a connection takes less than a millisecond; a packet that is lost is sent again after a second.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
const NAME: &str = "lost proxies";

/// Looks for proxies that are lost.
pub struct Search {
    /// How to reach the API server.
    pub client: Client,
    /// Where it is told.
    pub events: Arc<Events>,
    /// The proxies' pods.
    pub world: Arc<World>,
    /// The load balancers.
    pub registry: Arc<Registry>,
    /// Who reports.
    pub reports: Arc<Reports>,
    /// How many were lost.
    pub metrics: Metrics,
}

/// Looks each second.
pub async fn run(search: Search) -> &'static str {
    if search.world.ready().await.is_err() {
        return NAME;
    }
    let mut suspects = Suspects::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        search.look(&mut suspects, is_there).await;
    }
}

/// A proxy's pod, and whose it is.
struct Found {
    balancer: Arc<ValidLoadBalancer>,
    pod: Arc<Pod>,
    uid: String,
    address: SocketAddr,
}

impl Search {
    async fn look(&self, suspects: &mut Suspects, is_there: impl AsyncFn(SocketAddr) -> bool) {
        let found = self.proxies();
        let now = Instant::now();
        let proxies: Vec<_> = found.iter().map(|found| self.seen(found, now)).collect();
        let Review { ask, back } = suspects.review(&proxies);
        for found in found.iter().filter(|found| back.contains(&found.uid)) {
            let note = format!("{} reports again", found.pod.name_any());
            self.events.tell_of_balancer(&found.balancer, false, "ProxyBack", note).await;
        }
        let asked = found.iter().filter(|found| ask.contains(&found.uid));
        let answers = asked.map(async |found| (found, is_there(found.address).await));
        for (found, is_there) in join_all(answers).await {
            if suspects.is_lost(&found.uid, is_there) && self.tell_kubernetes(found).await {
                suspects.told(&found.uid);
            }
        }
    }

    fn proxies(&self) -> Vec<Found> {
        let balancers = self.registry.read(|accepted| accepted.load_balancers.clone());
        let of = |balancer: Arc<ValidLoadBalancer>| {
            let pods = self.world.proxies_of(&balancer.key).into_iter();
            pods.filter_map(move |pod| Found::new(&balancer, pod))
        };
        balancers.into_values().flat_map(of).collect()
    }

    fn seen<'a>(&self, Found { balancer, pod, uid, .. }: &'a Found, now: Instant) -> Proxy<'a> {
        let ready = condition(pod, "Ready").is_some_and(|ready| ready.status == "True");
        Proxy { uid, balancer: &balancer.key, ready, live: self.reports.is_live(&balancer.key, uid, now) }
    }

    /// Whether it has heard.
    async fn tell_kubernetes(&self, Found { balancer, pod, uid, .. }: &Found) -> bool {
        let (name, node) = (pod.name_any(), pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &balancer.key.namespace);
        let (manager, patch) = (PatchParams::default(), Patch::Strategic(not_ready(uid, Timestamp::now())));
        let written =
            request(|| format!("say that {name} is lost"), pods.patch_status(&name, &manager, &patch));
        if let Err(error) = written.await {
            warn!(%error, load_balancer = %balancer.key, "a lost proxy still gets connections; it is tried again");
            return false;
        }
        self.metrics.lost();
        let note = format!(
            "{name} on {} neither reports nor answers: new connections go to other proxies; look at the node",
            node.unwrap_or("no node")
        );
        self.events.tell_of_balancer(balancer, true, "ProxyLost", note).await;
        true
    }
}

impl Found {
    /// None while the pod has no address, and once it is being deleted: that takes it from Services anyway.
    fn new(balancer: &Arc<ValidLoadBalancer>, pod: Arc<Pod>) -> Option<Self> {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
        let uid = pod.metadata.uid.clone().filter(|_| pod.metadata.deletion_timestamp.is_none())?;
        Some(Self { balancer: balancer.clone(), pod, uid, address: SocketAddr::new(ip, ADMIN_PORT) })
    }
}

/// If the pod is another one by now, its UID makes this fail.
fn not_ready(uid: &str, time: Timestamp) -> Value {
    let message = "it neither reports to the operator nor answers it";
    let condition = merged_condition("Ready", "False", "ProxyLost", message, time);
    json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}})
}

async fn is_there(address: SocketAddr) -> bool {
    timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await.is_ok_and(|connected| answers(&connected))
}

/// Whoever refuses is there; what it is about its kubelet knows.
fn answers(connected: &io::Result<TcpStream>) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    connected
        .as_ref()
        .map_or_else(|error| matches!(error.kind(), ConnectionRefused | ConnectionReset), |_| true)
}

#[cfg(test)]
mod tests;
