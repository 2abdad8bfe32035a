//! The cases: what is broken or changed, and what clients are promised meanwhile.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{ReplicaService, TargetGroup};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::clock::{leaders_clock_set, proxys_clock_set};
use super::control::{
    authority_rotated, component_hangs, leader_paused, operator_dies, operator_killed_in_a_drain,
    operators_away, replica_deleted_without_operators,
};
use super::machine::{Signal, boot, heal, lose_power, partition, signal};
use super::metrics::{metrics_api_gone, metrics_server};
use super::stage::{REPLICAS, Stage, restarts, uid};
use super::steady::{Steady, Traffic};
use crate::conditions::eventually;
use crate::traffic::http::send;

/// So often a replica goes in one run, where it takes a second.
const SCALE_INS: usize = 5;
/// How long a replica fails in its own way.
const ILL_SECONDS: u64 = 5;
/// How long a node is away: less than Kubernetes takes to notice.
const NODE_SECONDS: u64 = 20;
/// So long a node remembers the way of a connection that was reset (`nf_conntrack_tcp_timeout_close`, and a bit): a client that
/// uses its port again is led to the same proxy, even if that is gone.
const REMEMBERED_SECONDS: u64 = 12;

/// What clients are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// No request fails.
    NothingFails,
    /// Only requests fail that were on what went away, and could not safely be repeated.
    OnlyTheVictimsFail,
}

/// Breaks or changes something, and waits until all is well again or can be made so by [`Stage::restore`].
pub type Fault = for<'a> fn(&'a Stage<'_>, &'a Steady) -> LocalBoxFuture<'a, Result<()>>;

/// What a case needs to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its own objects.
    Namespace,
    /// The cluster: nobody else can play meanwhile.
    Cluster,
}

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name in reports.
    pub name: &'static str,
    /// What it needs to itself.
    pub reach: Reach,
    /// What clients send meanwhile.
    pub traffic: Traffic,
    /// What clients are promised.
    pub promise: Promise,
    /// What happens.
    pub fault: Fault,
}

const fn safe(name: &'static str, fault: Fault) -> Case {
    let (reach, traffic) = (Reach::Namespace, Traffic::Everything);
    Case { name, reach, traffic, promise: Promise::NothingFails, fault }
}

const fn lossy(name: &'static str, fault: Fault) -> Case {
    Case { promise: Promise::OnlyTheVictimsFail, ..safe(name, fault) }
}

impl Case {
    const fn alone(self) -> Self {
        Self { reach: Reach::Cluster, ..self }
    }

    const fn at_rest(self) -> Self {
        Self { traffic: Traffic::Quick, ..self }
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    safe("scale-in", |stage, _| stage.scale(2).boxed_local()),
    safe("scale-in-at-rest", |stage, _| scale_in_again_and_again(stage).boxed_local()).at_rest(),
    safe("scale-out-and-in", |stage, _| scale_out_and_in(stage).boxed_local()),
    safe("rollout", |stage, _| rollout(stage).boxed_local()),
    safe("rollout-that-fails", |stage, steady| rollout_that_fails(stage, steady).boxed_local()),
    safe("replica-deleted", |stage, _| replica_deleted(stage).boxed_local()),
    lossy("replica-killed", |stage, _| replica_killed(stage).boxed_local()),
    lossy("replica-hangs", |stage, _| replica_hangs(stage).boxed_local()),
    safe("replica-answers-slowly", |stage, steady| replica_ill(stage, steady, "slow").boxed_local()),
    lossy("replica-resets-connections", |stage, steady| replica_ill(stage, steady, "reset").boxed_local()),
    lossy("replica-sends-less-than-it-says", |stage, steady| {
        replica_ill(stage, steady, "short").boxed_local()
    }),
    safe("proxy-rollout", |stage, _| proxy_rollout(stage).boxed_local()),
    lossy("proxy-killed", |stage, _| proxy_killed(stage).boxed_local()),
    safe("operator-killed-in-a-drain", |stage, _| operator_killed_in_a_drain(stage).boxed_local()).alone(),
    safe("operator-dies-after-each-step-of-a-drain", |stage, _| {
        operator_dies(stage, &["drain", "mark", "close-gate", "scale"], |stage| stage.scale(2).boxed_local())
            .boxed_local()
    })
    .alone(),
    safe("operator-dies-after-each-step-of-a-rollout", |stage, _| {
        operator_dies(stage, &["drain", "mark", "close-gate", "open-gate"], |stage| {
            rollout(stage).boxed_local()
        })
        .boxed_local()
    })
    .alone(),
    safe("leader-paused", |stage, steady| leader_paused(stage, steady).boxed_local()).alone(),
    safe("certificate-authority-rotated", |stage, _| authority_rotated(stage).boxed_local()).alone(),
    safe("operators-away", |stage, steady| operators_away(stage, steady).boxed_local()).alone(),
    lossy("replica-deleted-without-operators", |stage, steady| {
        replica_deleted_without_operators(stage, steady).boxed_local()
    })
    .alone(),
    safe("api-server-hangs", |stage, steady| component_hangs(stage, steady, "kube-apiserver").boxed_local())
        .alone(),
    safe("etcd-hangs", |stage, steady| component_hangs(stage, steady, "etcd").boxed_local()).alone(),
    safe("metrics-server-hangs", |stage, steady| {
        metrics_server(stage, steady, [Signal::Stop, Signal::Continue]).boxed_local()
    })
    .alone(),
    safe("metrics-server-stale", |stage, steady| {
        metrics_server(stage, steady, [Signal::Age, Signal::Refresh]).boxed_local()
    })
    .alone(),
    safe("metrics-api-gone", |stage, steady| metrics_api_gone(stage, steady).boxed_local()).alone(),
    safe("leaders-clock-set", |stage, _| leaders_clock_set(stage).boxed_local()).alone(),
    safe("proxys-clock-set", |stage, _| proxys_clock_set(stage).boxed_local()),
    safe("logs-not-read", |stage, steady| logs_not_read(stage, steady).boxed_local()).alone(),
    safe("flood-of-changes", |stage, _| flood_of_changes(stage).boxed_local()).alone(),
    safe("node-drained", |stage, _| node_drained(stage).boxed_local()).alone(),
    lossy("node-cut-off", |stage, steady| node_cut_off(stage, steady).boxed_local()).alone(),
    lossy("node-killed", |stage, steady| node_killed(stage, steady).boxed_local()).alone(),
];

async fn scale_in_again_and_again(stage: &Stage<'_>) -> Result<()> {
    for _ in 0..SCALE_INS {
        stage.scale(2).await?;
        stage.scale(REPLICAS).await?;
    }
    Ok(())
}

async fn scale_out_and_in(stage: &Stage<'_>) -> Result<()> {
    stage.scale(6).await?;
    stage.scale(2).await
}

async fn rollout(stage: &Stage<'_>) -> Result<()> {
    let before = begin_rollout(stage).await?;
    until_replaced(stage, &before).await
}

/// Returns the replicas that it replaces.
pub(super) async fn begin_rollout(stage: &Stage<'_>) -> Result<Vec<Pod>> {
    let before = stage.replicas().await?;
    let marked = json!({"metadata": {"annotations": {"evenkeel.test/rollout": unique(&before)}}});
    stage.ns.patch::<ReplicaService>("web", json!({"spec": {"template": marked}})).await?;
    Ok(before)
}

pub(super) async fn until_replaced(stage: &Stage<'_>, before: &[Pod]) -> Result<()> {
    eventually("replicas of the new template only", async || {
        let now = stage.replicas().await?;
        let left = now.iter().filter(|pod| before.iter().any(|old| old.uid() == pod.uid())).count();
        ensure!(left == 0 && !now.is_empty(), "{left} old replicas");
        Ok(())
    })
    .await?;
    stage.until_well(REPLICAS).await
}

/// Something that no earlier template had.
fn unique(pods: &[Pod]) -> String {
    pods.iter().filter_map(Pod::uid).collect::<Vec<_>>().join(" ")
}

async fn rollout_that_fails(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let ill = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/missing:1"}]);
    stage.ns.kubectl(&["patch", "replicaservice/web", "--type=json", "-p", &ill.to_string()]).await?;
    eventually("a pod that cannot start", async || {
        let pods = stage.replicas().await?;
        ensure!(pods.len() as i32 > REPLICAS, "{} pods", pods.len());
        Ok(())
    })
    .await?;
    steady.run_on(5).await?;
    stage.change(|service| service.spec.scaling.desired = Some(REPLICAS)).await?;
    stage.until_well(REPLICAS).await
}

async fn replica_deleted(stage: &Stage<'_>) -> Result<()> {
    let victim = choose(stage.replicas().await?)?;
    let pods: Api<Pod> = stage.ns.api();
    pods.delete(&victim.name_any(), &DeleteParams::default()).await?;
    crate::conditions::until_gone(&pods, &victim.name_any()).await?;
    stage.until_well(REPLICAS).await
}

async fn replica_killed(stage: &Stage<'_>) -> Result<()> {
    let victim = choose(stage.replicas().await?)?;
    signal(Signal::Kill, uid(&victim)?).await?;
    stage.until_restarted(&victim).await?;
    stage.until_well(REPLICAS).await
}

async fn replica_hangs(stage: &Stage<'_>) -> Result<()> {
    let victim = choose(stage.replicas().await?)?;
    signal(Signal::Stop, uid(&victim)?).await?;
    let noticed = stage.ns.until("web", "with a replica that hangs", |group: &TargetGroup| {
        group.status.as_ref().is_some_and(|status| status.targets.unhealthy == 1)
    });
    let noticed = noticed.await;
    signal(Signal::Continue, uid(&victim)?).await?;
    noticed?;
    stage.until_well(REPLICAS).await
}

/// Whichever replica is asked fails in some way for a while.
async fn replica_ill(stage: &Stage<'_>, steady: &Steady, how: &str) -> Result<()> {
    let ill = format!("/admin/fault?kind={how}&s={ILL_SECONDS}");
    let request = Request::post(stage.http.url(&ill)).body(Full::default())?;
    send(request).await?;
    steady.run_on(ILL_SECONDS + 2).await?;
    stage.until_well(REPLICAS).await
}

async fn proxy_rollout(stage: &Stage<'_>) -> Result<()> {
    let before = stage.proxies().await?;
    stage.ns.kubectl(&["rollout", "restart", "deployment/shop-proxy"]).await?;
    eventually("only new proxies", async || {
        let now = stage.proxies().await?;
        let left = now.iter().filter(|pod| before.iter().any(|old| old.uid() == pod.uid())).count();
        ensure!(left == 0 && now.len() == 2, "{left} old proxies of {}", now.len());
        Ok(())
    })
    .await?;
    stage.until_rolled_out("shop-proxy", 2).await
}

/// Nobody takes what proxies print for each request: the runtimes of all nodes hang.
async fn logs_not_read(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    stage.log_requests(true).await?;
    let nodes = stage.nodes().await?;
    let runtimes = async |what: Signal| {
        let mut sent = Ok(());
        for node in 1..=nodes {
            sent = sent.and(signal(what, &format!("containerd{node}")).await);
        }
        sent
    };
    let meanwhile = match runtimes(Signal::Stop).await {
        Ok(()) => steady.run_on(stage.extent.outage_seconds).await,
        failed => failed,
    };
    runtimes(Signal::Continue).await?;
    meanwhile?;
    eventually("the line of a request after it", async || {
        crate::traffic::http::get(&stage.http.url("/?read=again")).await?;
        let logs = ["logs", "--selector=evenkeel.dev/load-balancer=shop", "--since=2s", "--tail=-1"];
        ensure!(stage.ns.kubectl(&logs).await?.contains("/?read=again"), "it is not there");
        Ok(())
    })
    .await?;
    stage.log_requests(false).await
}

async fn proxy_killed(stage: &Stage<'_>) -> Result<()> {
    let victim = choose(stage.proxies().await?)?;
    signal(Signal::Kill, uid(&victim)?).await?;
    stage.until_restarted(&victim).await
}

async fn flood_of_changes(stage: &Stage<'_>) -> Result<()> {
    use futures::{StreamExt as _, TryStreamExt as _};
    let change = |i: u32| async move {
        let delay = json!({"spec": {"deregistrationDelay": format!("{}s", 10 + i % 5)}});
        stage.ns.patch::<TargetGroup>("web", delay).await.map(drop)
    };
    futures::stream::iter((0..stage.extent.changes).map(change))
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    stage.scale(4).await
}

async fn node_drained(stage: &Stage<'_>) -> Result<()> {
    let victim = choose(stage.replicas().await?)?;
    let node = victim.spec.and_then(|spec| spec.node_name).context("a replica without a node")?;
    let kubectl = async |arguments: &[&str]| stage.ns.environment.kubectl(arguments).await.map(drop);
    let ours = ["--pod-selector=app.kubernetes.io/managed-by=evenkeel", "--timeout=60s"];
    let drained = kubectl(&[&["drain", &node, "--ignore-daemonsets"][..], &ours].concat()).await;
    let well = stage.until_well(REPLICAS).await;
    kubectl(&["uncordon", &node]).await?;
    drained.and(well)
}

async fn node_cut_off(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let node = stage.node_with_a_replica().await?;
    partition(&node).await?;
    let meanwhile = steady.run_on(NODE_SECONDS).await;
    heal(&node).await?;
    meanwhile?;
    steady.run_on(REMEMBERED_SECONDS).await?;
    stage.until_well(REPLICAS).await
}

async fn node_killed(stage: &Stage<'_>, steady: &Steady) -> Result<()> {
    let node = stage.node_with_a_replica().await?;
    lose_power(&node).await?;
    let meanwhile = steady.run_on(NODE_SECONDS).await;
    boot(&node).await?;
    meanwhile?;
    steady.run_on(REMEMBERED_SECONDS).await?;
    stage.until_well(REPLICAS).await
}

/// The pod that was restarted the least: the kubelet waits longer each time.
pub(super) fn choose(pods: Vec<Pod>) -> Result<Pod> {
    pods.into_iter().min_by_key(restarts).context("there is no pod")
}
