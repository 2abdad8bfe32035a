//! The objects that a case plays on: a load balancer with two proxies, three replicas, HTTP and TCP.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup, TargetProtocol};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectList};
use serde_json::json;

use crate::cluster::Namespace;
use crate::conditions::{eventually, until};
use crate::environment::SYSTEM;
use crate::fixtures::{listener, named, web, web_group};
use crate::ports::NodePort;
use crate::traffic::Client;

/// The node whose ports the host's are mapped to.
const CLIENTS_COME_BY: &str = "node1";
/// Replicas when nothing happens.
pub const REPLICAS: i32 = 3;

/// How much of a fault: enough to see what it does, or as much as an operator on call would be woken for.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How long a component of the cluster is away.
    pub outage_seconds: u64,
    /// How many changes make a flood.
    pub changes: u32,
}

impl Extent {
    /// For a look between two changes of the code.
    pub const BRIEF: Self = Self { outage_seconds: 10, changes: 1_000 };
    /// For the record.
    pub const FULL: Self = Self { outage_seconds: 60, changes: 10_000 };
}

/// The objects, and the way to them.
pub struct Stage<'a> {
    /// How much of each fault.
    pub extent: Extent,
    /// Where they are.
    pub ns: &'a Namespace,
    /// HTTP.
    pub http: NodePort,
    /// The TCP echo.
    pub echo: NodePort,
}

impl<'a> Stage<'a> {
    /// Makes the objects and waits until all is well.
    ///
    /// # Errors
    /// When one of them is refused or does not become ready.
    pub async fn set(ns: &'a Namespace, extent: Extent) -> Result<Self> {
        let echo = ns.node_port().await?;
        let mut group: TargetGroup = named(web_group()?, "echo");
        group.spec.port = IntOrString::String("echo".into());
        group.spec.protocol = TargetProtocol::TCP;
        ns.apply(&group).await?;
        let tcp = listener(&format!(
            "{{name: echo, port: 9000, protocol: TCP, nodePort: {}, defaultAction: {{forward: {{targetGroups: [{{name: echo}}]}}}}}}",
            echo.number
        ))?;
        let http = ns
            .serve_web_by(REPLICAS, |shop| {
                shop.spec.replicas = 2;
                shop.spec.listeners.push(tcp);
            })
            .await?;
        ns.patch::<ReplicaService>("web", json!({"spec": {"scaling": {"min": 2}}})).await?;
        let stage = Self { extent, ns, http, echo };
        eventually("the first echo", async || {
            Client::tcp(stage.echo.address()).session().exchange().await.map_err(anyhow::Error::msg)
        })
        .await?;
        stage.restore().await?;
        Ok(stage)
    }

    /// Brings it back to where every case begins.
    ///
    /// # Errors
    /// When all is not well in time.
    pub async fn restore(&self) -> Result<()> {
        self.scale(REPLICAS).await?;
        self.until_rolled_out("shop-proxy", 2).await?;
        self.ns.until_programmed("shop").await.map(drop)
    }

    /// Asks for so many replicas, and waits until there are so many and all are healthy.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        let number = format!("--replicas={replicas}");
        self.ns.kubectl(&["scale", "replicaservice/web", &number]).await?;
        self.until_well(replicas).await
    }

    /// Waits until there are so many replicas and no other pods of theirs, and all are healthy.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until_well(&self, replicas: i32) -> Result<()> {
        self.until_rolled_out("web", replicas).await?;
        for group in ["web", "echo"] {
            self.ns.until_healthy(group, replicas).await?;
        }
        Ok(())
    }

    /// Waits until a Deployment runs so many pods of its newest template, and none else.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until_rolled_out(&self, name: &str, replicas: i32) -> Result<()> {
        let what = format!("rolled out with {replicas} replicas");
        let deployments: Api<Deployment> = self.ns.api();
        until(&deployments, name, &what, |deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            let seen = status.observed_generation >= deployment.metadata.generation;
            let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
            seen && counts.iter().all(|count| count.unwrap_or(0) == replicas)
        })
        .await
        .map(drop)
    }

    /// Changes the replicas as `change` says, and applies them.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn change(&self, change: impl FnOnce(&mut ReplicaService)) -> Result<()> {
        let mut service = web(&self.ns.environment.demo_app_image)?;
        change(&mut service);
        self.ns.apply(&service).await.map(drop)
    }

    /// Lets the proxies print a line for each request, or not, and waits until all of them do.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn log_requests(&self, access_log: bool) -> Result<()> {
        let change = json!({"spec": {"accessLog": access_log}});
        self.ns.patch::<LoadBalancer>("shop", change).await?;
        eventually("proxies that are told", async || {
            let proxies = self.proxies().await?;
            let told = proxies.iter().filter(|pod| prints_requests(pod) == access_log).count();
            ensure!(told == 2 && proxies.len() == 2, "{told} of {} proxies", proxies.len());
            Ok(())
        })
        .await?;
        self.until_rolled_out("shop-proxy", 2).await
    }

    /// How many nodes the cluster has that run containers.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn nodes(&self) -> Result<usize> {
        let nodes: Api<Node> = Api::all(self.ns.client.clone());
        Ok(nodes.list(&ListParams::default().labels("!fake")).await?.items.len())
    }

    /// The pods of the replicas that nobody deleted yet.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn replicas(&self) -> Result<Vec<Pod>> {
        self.pods("evenkeel.dev/replica-service=web").await
    }

    /// The pods of the proxies.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn proxies(&self) -> Result<Vec<Pod>> {
        self.pods("evenkeel.dev/load-balancer=shop").await
    }

    /// Number of a node with a replica on it, other than the one by which clients come.
    ///
    /// # Errors
    /// When there is none.
    pub async fn node_with_a_replica(&self) -> Result<String> {
        let nodes = self.replicas().await?.into_iter().filter_map(|pod| pod.spec?.node_name);
        let node = nodes.into_iter().find(|node| node != CLIENTS_COME_BY);
        let node = node.context("no replica on another node than the clients' one")?;
        Ok(node.trim_start_matches("node").to_owned())
    }

    async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = self.ns.api();
        Ok(undeleted(pods.list(&ListParams::default().labels(selector)).await?))
    }

    /// Waits until the container of a pod was started again and is ready.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until_restarted(&self, pod: &Pod) -> Result<()> {
        let (before, pods): (_, Api<Pod>) = (restarts(pod), self.ns.api());
        until(&pods, &pod.name_any(), "started again", |pod| restarts(pod) > before && is_ready(pod))
            .await
            .map(drop)
    }

    /// Waits until the Deployment of the replicas runs as many as it is told to, all of its newest template, and all are
    /// healthy.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until_settled(&self) -> Result<()> {
        let web: ReplicaService = self.ns.api().get("web").await?;
        self.until_well(web.spec.scaling.desired.context("web has no desired number")?).await
    }

    /// Sets a variable in the operators' environment, and waits until all have it.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn set_operator(&self, variable: &str) -> Result<()> {
        self.operator(&["set", "env", "deployment/evenkeel-operator", variable]).await?;
        self.operator(&["rollout", "status", "deployment/evenkeel-operator", "--timeout=60s"]).await
    }

    /// How often operators that run now have died.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn operator_deaths(&self) -> Result<i32> {
        let pods: Api<Pod> = Api::namespaced(self.ns.client.clone(), SYSTEM);
        Ok(undeleted(pods.list(&ListParams::default()).await?).iter().map(restarts).sum())
    }

    /// Runs kubectl on the operator's Deployment.
    ///
    /// # Errors
    /// With what it said.
    pub async fn operator(&self, arguments: &[&str]) -> Result<()> {
        let here = ["--namespace", SYSTEM];
        self.ns.environment.kubectl(here.iter().chain(arguments)).await.map(drop)
    }
}

fn undeleted(pods: ObjectList<Pod>) -> Vec<Pod> {
    pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

fn prints_requests(proxy: &Pod) -> bool {
    let containers = proxy.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.args.iter().flatten()).any(|arg| arg == "--access-log=-")
}

/// UID of a pod.
///
/// # Errors
/// When it has none, which no pod that was read has.
pub fn uid(pod: &Pod) -> Result<&str> {
    pod.metadata.uid.as_deref().context("a pod without UID")
}

/// How often containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().map(|container| container.restart_count).sum()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
