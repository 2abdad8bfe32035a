//! A proxy in this process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use evenkeel_proxy::cells::Verdict;
use evenkeel_proxy::group::Group;
use evenkeel_proxy::proxy::{Http1Through, Proxy, Settings};
use evenkeel_proxy_api::report::{Ack, Health};
use evenkeel_proxy_api::snapshot::Snapshot;

/// Nothing in these tests takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Held by who starts a process: from its fork until its exec it has copies of all sockets of this one, by which a port that
/// was just closed is still open.
pub static FORKS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A port that nobody uses: below those that the kernel gives to clients, and given once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A proxy that serves this snapshot (YAML); its targets count as healthy.
pub async fn serve(snapshot: &str) -> Proxy {
    serve_with(snapshot, settings()).await
}

pub fn settings() -> Settings {
    Settings { threads: 2, drain_timeout: PATIENCE, access_log: None, http1: Http1Through::default() }
}

pub async fn serve_with(snapshot: &str, settings: Settings) -> Proxy {
    let proxy = Proxy::new(&settings).expect("a proxy");
    let ack = apply(&proxy, snapshot).await;
    assert_eq!(ack.rejections, []);
    proxy
}

/// Takes over a snapshot. Targets that were never checked count as healthy from now on.
pub async fn apply(proxy: &Proxy, snapshot: &str) -> Ack {
    let snapshot: Snapshot = serde_saphyr::from_str(snapshot).expect("a snapshot");
    let ack = proxy.applier.apply(&snapshot, Vec::new()).await;
    for group in proxy.core.groups() {
        for endpoint in group.current_endpoints() {
            if endpoint.cell.health() == Health::Initial {
                group.set_health(&endpoint.cell, Health::Healthy, Verdict::default());
            }
        }
    }
    ack
}

/// The one target group of [`forwarding`].
pub fn group(proxy: &Proxy) -> Arc<Group> {
    proxy.core.groups().into_iter().next().expect("a group")
}

/// Requests in flight at all targets.
pub fn in_flight(proxy: &Proxy) -> u32 {
    let endpoints = proxy.core.groups().into_iter().flat_map(|group| group.endpoints());
    endpoints.map(|endpoint| endpoint.cell.in_flight()).sum()
}

/// Waits until something holds, looking often.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A line of a target in a snapshot.
pub fn target(id: &str, port: u16) -> String {
    format!("{{id: {id}, address: 127.0.0.1, port: {port}}}")
}

/// An HTTP listener that forwards everything to these targets.
pub fn forwarding(port: u16, targets: &[String]) -> String {
    format!(
        "listeners: {{web: {{port: {port}, idleTimeout: 2s, defaultAction: {{forward: {{targetGroups: [{{name: api}}]}}}}}}}}\n\
         targetGroups: {{api: {{targets: [{}]}}}}\n",
        targets.join(", ")
    )
}
