//! A namespace per test, removed afterwards; what it looked like, when the test fails.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use evenkeel_crds::v1alpha1::{LoadBalancer, TargetGroup};
use futures::FutureExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;

use crate::conditions::{self, Conditioned, Watchable};
use crate::environment::{Environment, SYSTEM};
use crate::ports::{Lease, NodePort};
use crate::{fixtures, install};

/// Field manager of the tests.
const MANAGER: &str = "evenkeel-e2e";

/// A namespace of a test's own.
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// A client for the cluster.
    pub client: Client,
    /// Tools and images.
    pub environment: Environment,
    ports: Mutex<Vec<Lease>>,
}

/// Runs a test in a namespace of its own, which is removed afterwards. Installs Evenkeel before the first one.
///
/// # Errors
/// When the test failed, after printing what the namespace looked like.
pub async fn with_namespace(prefix: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    let environment = Environment::read()?;
    let _shared = install::shared(&environment).await?;
    run(prefix, environment, test).await
}

/// As [`with_namespace`], while no other test uses the installation: for tests that break or replace it.
///
/// # Errors
/// When the test failed, after printing what the namespace looked like.
pub async fn alone(prefix: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    let environment = Environment::read()?;
    let _alone = install::alone(&environment).await?;
    run(prefix, environment, test).await
}

async fn run(
    prefix: &str,
    environment: Environment,
    test: impl AsyncFnOnce(&Namespace) -> Result<()>,
) -> Result<()> {
    let namespace = Namespace::create(prefix, environment).await?;
    let outcome = AssertUnwindSafe(test(&namespace)).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        namespace.dump().await;
    }
    let removed = namespace.remove().await;
    match outcome {
        Ok(result) => result.and(removed),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Namespace {
    async fn create(prefix: &str, environment: Environment) -> Result<Self> {
        let client = Client::try_default().await.context("reach the cluster that KUBECONFIG names")?;
        let namespaces: Api<core::Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({
            "metadata": {"generateName": format!("e2e-{prefix}-"), "labels": {"evenkeel.dev/e2e": "true"}}
        }))?;
        let name = namespaces.create(&PostParams::default(), &namespace).await?.name_any();
        Ok(Self { name, client, environment, ports: Mutex::default() })
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Applies an object, as `kubectl apply --server-side` would.
    ///
    /// # Errors
    /// With what the API server says of it.
    pub async fn apply<K>(&self, object: &K) -> Result<K>
    where
        K: Watchable + Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let mut object = object.clone();
        object.meta_mut().managed_fields = None;
        object.meta_mut().resource_version = None;
        let parameters = PatchParams::apply(MANAGER).force();
        Ok(self.api().patch(&object.name_any(), &parameters, &Patch::Apply(&object)).await?)
    }

    /// Merges a change into an object, as `kubectl patch --type=merge` would.
    ///
    /// # Errors
    /// With what the API server says of it.
    pub async fn patch<K>(&self, name: &str, change: serde_json::Value) -> Result<K>
    where
        K: Watchable + Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Ok(self.api().patch(name, &PatchParams::default(), &Patch::Merge(change)).await?)
    }

    /// Waits until `holds` is true of an object.
    ///
    /// # Errors
    /// As [`conditions::until`].
    pub async fn until<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> Result<K>
    where
        K: Watchable + Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        conditions::until(&self.api(), name, what, holds).await
    }

    /// Waits until every proxy of a load balancer has acknowledged its current generation, and it is ready.
    ///
    /// # Errors
    /// As [`conditions::until`].
    pub async fn until_programmed(&self, name: &str) -> Result<LoadBalancer> {
        self.until(name, "Programmed and Ready", |lb: &LoadBalancer| lb.is("Programmed") && lb.is("Ready"))
            .await
    }

    /// The objects most tests begin with: replicas `web`, their target group, and a load balancer at a node port.
    /// Returns the port once the load balancer is ready and all the replicas are healthy.
    ///
    /// # Errors
    /// When one of them is refused or does not become ready.
    pub async fn serve_web(&self, replicas: i32) -> Result<NodePort> {
        self.serve_web_by(replicas, |_| {}).await
    }

    /// As [`Self::serve_web`], by a load balancer that is changed before it is applied.
    ///
    /// # Errors
    /// When one of the objects is refused or does not become ready.
    pub async fn serve_web_by(
        &self,
        replicas: i32,
        change: impl FnOnce(&mut LoadBalancer),
    ) -> Result<NodePort> {
        let port = self.node_port().await?;
        let mut web = fixtures::web(&self.environment.demo_app_image)?;
        (web.spec.scaling.min, web.spec.scaling.max) = (replicas, replicas.max(6));
        let mut balancer = fixtures::balancer(port.number)?;
        change(&mut balancer);
        self.apply(&web).await?;
        self.apply(&fixtures::web_group()?).await?;
        self.apply(&balancer).await?;
        self.until_programmed("shop").await?;
        self.until_healthy("web", replicas).await?;
        port.until_answering().await?;
        Ok(port)
    }

    /// Waits until a target group has so many targets, all of them healthy.
    ///
    /// # Errors
    /// As [`conditions::until`].
    pub async fn until_healthy(&self, group: &str, targets: i32) -> Result<()> {
        let what = format!("healthy with {targets} targets");
        self.until(group, &what, |group: &TargetGroup| {
            group
                .status
                .as_ref()
                .is_some_and(|status| (status.targets.total, status.targets.healthy) == (targets, targets))
        })
        .await
        .map(drop)
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.environment.kubectl(["--namespace", &self.name].iter().chain(arguments)).await
    }

    /// Applies a manifest with kubectl in this namespace.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn kubectl_apply(&self, manifest: &str) -> Result<String> {
        let arguments = ["--namespace", &self.name, "apply", "--server-side"];
        self.environment.kubectl_with_input(arguments, manifest).await
    }

    /// A node port that is nobody else's until this namespace is gone. Waits while all are taken.
    ///
    /// # Errors
    /// When the cluster cannot be asked which ones are taken.
    pub async fn node_port(&self) -> Result<NodePort> {
        let lease = Lease::take(&self.client).await?;
        let port = NodePort { number: lease.number(), host: self.environment.host.clone() };
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
        Ok(port)
    }

    async fn dump(&self) {
        let here = ["--namespace", &self.name];
        let system = ["--namespace", SYSTEM];
        let commands: [(&[&str], &[&str]); 6] = [
            (&here, &["get", "loadbalancers,targetgroups,replicaservices", "-o", "yaml"]),
            (&here, &["get", "pods,deployments,services,endpointslices,networkpolicies", "-o", "wide"]),
            (&here, &["get", "events", "--sort-by=.lastTimestamp"]),
            (&here, &["logs", "-l", "evenkeel.dev/load-balancer", "--tail=80", "--prefix"]),
            (&system, &["get", "pods,leases,endpointslices", "-o", "wide"]),
            (&system, &["logs", "deployment/evenkeel-operator", "--all-pods", "--tail=150", "--prefix"]),
        ];
        for (namespace, arguments) in commands {
            eprintln!("── kubectl {} {}", namespace.join(" "), arguments.join(" "));
            match self.environment.kubectl(namespace.iter().chain(arguments)).await {
                Ok(output) => eprintln!("{output}"),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }

    /// Deletes the load balancers, waits until their Services, and with them the node ports, are gone, and deletes the
    /// namespace. The rest of it goes while other tests run: the proxies take their time for leaving.
    async fn remove(self) -> Result<()> {
        let balancers: Api<LoadBalancer> = self.api();
        for balancer in balancers.list(&ListParams::default()).await? {
            if balancer.spec.deletion_protection {
                let unprotected = json!({"spec": {"deletionProtection": false}});
                self.patch::<LoadBalancer>(&balancer.name_any(), unprotected).await?;
            }
            balancers.delete(&balancer.name_any(), &DeleteParams::background()).await?;
        }
        let services: Api<core::Service> = self.api();
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=evenkeel");
        for service in services.list(&ours).await? {
            conditions::until_gone(&services, &service.name_any()).await?;
        }
        let namespaces: Api<core::Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }
}
