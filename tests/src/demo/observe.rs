//! What the cluster says of the replicas: their pods and their ReplicaService by watches, their CPU by the metrics API.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use evenkeel_crds::v1alpha1::ReplicaService;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinSet;

use super::manifest::{Manifest, millicpu};
use super::story::Observed;

const REPLICA_SERVICE: &str = "evenkeel.dev/replica-service";
const DRAINING: &str = "evenkeel.dev/draining";
/// How often CPU is asked for; it is measured less often than that.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps an eye on the replicas until it is dropped.
pub struct Observer {
    service: ObjectRef<ReplicaService>,
    services: Store<ReplicaService>,
    pods: Store<Pod>,
    cpu_percent: Arc<Mutex<Option<f64>>>,
    _tasks: JoinSet<()>,
}

impl Observer {
    /// Begins to watch, and waits until everything was seen once.
    ///
    /// # Errors
    /// When the watches do not start.
    pub async fn start(client: Client, namespace: &str, manifest: &Manifest) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let selector = format!("{REPLICA_SERVICE}={}", manifest.service);
        let of_service = watcher::Config::default().fields(&format!("metadata.name={}", manifest.service));
        let services = follow(&mut tasks, Api::namespaced(client.clone(), namespace), of_service);
        let of_pods = watcher::Config::default().labels(&selector);
        let pods = follow(&mut tasks, Api::namespaced(client.clone(), namespace), of_pods);
        services.wait_until_ready().await?;
        pods.wait_until_ready().await?;
        let cpu_percent = Arc::<Mutex<Option<f64>>>::default();
        let path =
            format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
        tasks.spawn(poll(client, path, manifest.request_millicpu, cpu_percent.clone()));
        let service = ObjectRef::new(&manifest.service).within(namespace);
        Ok(Self { service, services, pods, cpu_percent, _tasks: tasks })
    }

    /// How it is now.
    pub fn now(&self) -> Observed {
        let service = self.services.get(&self.service);
        let pods = self.pods.state();
        let (leaving, staying): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| is_leaving(pod));
        let ready: BTreeSet<String> =
            staying.into_iter().filter(|pod| is_ready(pod)).map(|pod| pod.name_any()).collect();
        let status = service.as_ref().and_then(|service| service.status.as_ref());
        let desired = service.as_ref().and_then(|service| service.spec.scaling.desired);
        Observed {
            desired: desired.or(status.map(|status| status.desired_replicas)).unwrap_or_default(),
            ready,
            draining: leaving.len() as i32,
            pods: pods.len() as i32,
            cpu_percent: *self.cpu_percent.lock().unwrap_or_else(PoisonError::into_inner),
            last_scaling: status
                .and_then(|status| status.last_scaling.as_ref())
                .map(|last| format!("{} → {}: {}", last.from, last.to, last.message)),
        }
    }
}

fn follow<K>(tasks: &mut JoinSet<()>, api: Api<K>, config: watcher::Config) -> Store<K>
where
    K: crate::conditions::Watchable + Sync,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
{
    let (store, writer) = reflector::store();
    let events = reflector::reflector(writer, watcher(api, config)).default_backoff();
    // A failed watch is begun again: until then the store keeps what was seen last.
    tasks.spawn(events.for_each(|_| std::future::ready(())));
    store
}

/// Asks for the replicas' CPU again and again. While it cannot be had, it is unknown.
async fn poll(client: Client, path: String, request_millicpu: f64, cpu_percent: Arc<Mutex<Option<f64>>>) {
    let mut ticks = tokio::time::interval(METRICS_INTERVAL);
    loop {
        ticks.tick().await;
        let Ok(request) = http::Request::get(&path).body(Vec::new()) else { return };
        let measured = match client.request::<Value>(request).await {
            Ok(list) => utilization(&list, request_millicpu),
            Err(_) => None,
        };
        *cpu_percent.lock().unwrap_or_else(PoisonError::into_inner) = measured;
    }
}

/// Mean utilisation of the pods in a PodMetricsList, in percent of what each requests.
fn utilization(list: &Value, request_millicpu: f64) -> Option<f64> {
    let pods = list["items"].as_array()?;
    let used: f64 = pods
        .iter()
        .filter_map(|pod| pod["containers"].as_array())
        .flatten()
        .filter_map(|container| millicpu(container.pointer("/usage/cpu")?.as_str()?).ok())
        .sum();
    (!pods.is_empty()).then(|| used / (pods.len() as f64 * request_millicpu) * 100.0)
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() || pod.annotations().contains_key(DRAINING)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn utilization_is_the_mean_over_the_replicas() {
        let list = json!({"items": [
            {"containers": [{"usage": {"cpu": "50m"}}, {"usage": {"cpu": "10000000n"}}]},
            {"containers": [{"usage": {"cpu": "0"}}]},
        ]});
        assert_eq!(utilization(&list, 50.0), Some(60.0));
        assert_eq!(utilization(&json!({"items": []}), 50.0), None);
    }
}
