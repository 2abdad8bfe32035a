//! The bundle that proxies trust, in a ConfigMap of each namespace with a load balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::interval;
use tracing::{info, warn};

use super::{BUNDLE, NAME};
use crate::error::{Error, request};
use crate::labels;
use crate::registry::Registry;

/// Bundles that somebody removed are there again after so long.
const CHECK: Duration = Duration::from_secs(300);
/// What could not be written is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the newest bundle in each namespace with a load balancer.
pub async fn publish(
    client: Client,
    registry: Arc<Registry>,
    mut bundle: watch::Receiver<String>,
) -> &'static str {
    const PART: &str = "CA bundles";
    let mut accepts = registry.changes();
    let mut check = interval(CHECK);
    let mut published = BTreeSet::new();
    loop {
        let newest = bundle.borrow_and_update().clone();
        let namespaces: BTreeSet<String> = registry
            .read(|accepted| accepted.load_balancers.keys().map(|key| key.namespace.clone()).collect());
        published.retain(|namespace| namespaces.contains(namespace));
        for namespace in namespaces {
            if published.contains(&namespace) {
                continue;
            }
            match publish_in(&client, &namespace, &newest).await {
                Ok(()) => {
                    published.insert(namespace);
                }
                Err(error) => warn!(
                    namespace, %error,
                    "ConfigMap {NAME} could not be written; new proxies there do not start; it is tried again"
                ),
            }
        }
        let retry = registry
            .read(|accepted| accepted.load_balancers.keys().any(|key| !published.contains(&key.namespace)));
        tokio::select! {
            changed = accepts.changed() => if changed.is_err() { return PART },
            changed = bundle.changed() => {
                if changed.is_err() {
                    return PART;
                }
                published.clear();
            }
            _ = check.tick() => published.clear(),
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

async fn publish_in(client: &Client, namespace: &str, bundle: &str) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<String, String> = [(BUNDLE.to_owned(), bundle.to_owned())].into();
    let there = request(|| format!("read ConfigMap {NAME}"), api.get_opt(NAME)).await?;
    if there.is_some_and(|map| map.data.as_ref() == Some(&data)) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some([(labels::MANAGED_BY.to_owned(), "evenkeel".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    };
    let apply = PatchParams::apply(labels::MANAGER).force();
    request(|| format!("write ConfigMap {NAME}"), api.patch(NAME, &apply, &Patch::Apply(&map))).await?;
    info!(namespace, "published the certificate authority");
    Ok(())
}
