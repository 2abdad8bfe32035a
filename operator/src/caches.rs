//! What the cluster holds, kept in memory. Watches fill it by themselves, so that everything is there before the first
//! reconciliation, and so that one kind's controller can read another kind's objects.

use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{self, Store};

/// Objects that may not fit the types of this operator: one that does not must not hide the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// The stores.
#[derive(Clone)]
pub struct Caches {
    /// All of them.
    pub load_balancers: Store<Guarded<LoadBalancer>>,
    /// All of them.
    pub target_groups: Store<Guarded<TargetGroup>>,
    /// All of them.
    pub replica_services: Store<Guarded<ReplicaService>>,
    /// Ours.
    pub deployments: Store<Deployment>,
    /// All of them: targets can come from them.
    pub services: Store<Service>,
    /// Ours.
    pub service_accounts: Store<ServiceAccount>,
    /// Ours.
    pub network_policies: Store<NetworkPolicy>,
    /// All of them: two that select one pod make its evictions fail.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// All of them: they must not scale what we scale.
    pub autoscalers: Store<HorizontalPodAutoscaler>,
}

/// Who fills the stores.
pub(crate) struct Writers {
    pub(crate) load_balancers: Writer<Guarded<LoadBalancer>>,
    pub(crate) target_groups: Writer<Guarded<TargetGroup>>,
    pub(crate) replica_services: Writer<Guarded<ReplicaService>>,
    pub(crate) deployments: Writer<Deployment>,
    pub(crate) services: Writer<Service>,
    pub(crate) service_accounts: Writer<ServiceAccount>,
    pub(crate) network_policies: Writer<NetworkPolicy>,
    pub(crate) disruption_budgets: Writer<PodDisruptionBudget>,
    pub(crate) autoscalers: Writer<HorizontalPodAutoscaler>,
}

/// What happened to an object.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// It was there when the watch began.
    Found(&'a K),
    /// It appeared or changed.
    Changed(&'a K),
    /// It is gone.
    Gone(&'a K),
}

impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

impl<'a, K> Change<'a, K> {
    /// The object.
    pub fn object(self) -> &'a K {
        match self {
            Self::Found(object) | Self::Changed(object) | Self::Gone(object) => object,
        }
    }
}

impl Caches {
    /// Empty ones, and who fills them.
    pub(crate) fn stores() -> (Self, Writers) {
        let (load_balancers, load_balancers_writer) = reflector::store();
        let (target_groups, target_groups_writer) = reflector::store();
        let (replica_services, replica_services_writer) = reflector::store();
        let (deployments, deployments_writer) = reflector::store();
        let (services, services_writer) = reflector::store();
        let (service_accounts, service_accounts_writer) = reflector::store();
        let (network_policies, network_policies_writer) = reflector::store();
        let (disruption_budgets, disruption_budgets_writer) = reflector::store();
        let (autoscalers, autoscalers_writer) = reflector::store();
        let caches = Self {
            load_balancers,
            target_groups,
            replica_services,
            deployments,
            services,
            service_accounts,
            network_policies,
            disruption_budgets,
            autoscalers,
        };
        let writers = Writers {
            load_balancers: load_balancers_writer,
            target_groups: target_groups_writer,
            replica_services: replica_services_writer,
            deployments: deployments_writer,
            services: services_writer,
            service_accounts: service_accounts_writer,
            network_policies: network_policies_writer,
            disruption_budgets: disruption_budgets_writer,
            autoscalers: autoscalers_writer,
        };
        (caches, writers)
    }

    /// Returns once everything was listed. Fails when a watch ended.
    pub async fn ready(&self) -> Result<(), WriterDropped> {
        self.load_balancers.wait_until_ready().await?;
        self.target_groups.wait_until_ready().await?;
        self.replica_services.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.disruption_budgets.wait_until_ready().await?;
        self.autoscalers.wait_until_ready().await
    }
}
