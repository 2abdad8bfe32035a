//! The one endpoint behind the Service that proxies and the API server dial: the operator that leads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::ca::PUSH_SERVICE;
use crate::world::{SERVICE_NAME, World};

/// The ports that the Service leads to; each has that name there.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where proxies are served.
    pub push: u16,
    /// Where the API server asks about evictions.
    pub webhook: u16,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Somebody who changed the EndpointSlice is corrected within so long.
const CHECK: Duration = Duration::from_secs(2);

/// Keeps the EndpointSlice as it must be while this operator leads.
pub async fn claim(
    client: Client,
    namespace: String,
    address: IpAddr,
    ports: Ports,
    world: Arc<World>,
) -> &'static str {
    let wanted = slice(&namespace, address, ports);
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    // Written without a look first: proxies wait for it.
    let mut right = false;
    loop {
        if !right {
            match write(&api, &wanted).await {
                Ok(()) => info!(%address, "proxies find this operator"),
                Err(error) => {
                    warn!(%error, "EndpointSlice {PUSH_SERVICE} could not be written; it is tried again");
                }
            }
        }
        sleep(CHECK).await;
        let there = world.slices.get(&ObjectRef::new(PUSH_SERVICE).within(&namespace));
        right = there.is_some_and(|there| is_right(&there, &wanted));
    }
}

async fn write(api: &Api<EndpointSlice>, wanted: &EndpointSlice) -> Result<(), String> {
    let apply = PatchParams::apply("evenkeel").force();
    let written = timeout(REQUEST_TIMEOUT, api.patch(PUSH_SERVICE, &apply, &Patch::Apply(wanted))).await;
    match written {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server did not answer in time".into()),
    }
}

fn is_right(there: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let endpoints = |slice: &EndpointSlice| -> Vec<_> {
        let endpoints = slice.endpoints.iter();
        endpoints.map(|endpoint| (endpoint.addresses.clone(), endpoint.conditions.clone())).collect()
    };
    let ports = |slice: &EndpointSlice| -> Vec<_> {
        slice.ports.iter().flatten().map(|port| (port.name.clone(), port.port)).collect()
    };
    endpoints(there) == endpoints(wanted) && ports(there) == ports(wanted)
}

fn slice(namespace: &str, address: IpAddr, Ports { push, webhook }: Ports) -> EndpointSlice {
    let port = |name: &str, number: u16| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(i32::from(number)),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    let labels = [
        (SERVICE_NAME, PUSH_SERVICE),
        ("endpointslice.kubernetes.io/managed-by", "evenkeel"),
        ("app.kubernetes.io/managed-by", "evenkeel"),
    ];
    let endpoint = Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(PUSH_SERVICE.into()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        address_type: if address.is_ipv6() { "IPv6" } else { "IPv4" }.into(),
        endpoints: vec![endpoint],
        ports: Some(vec![port("push", push), port("webhook", webhook)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_leaders_address_or_port_is_not_right() {
        let slice = |address: &str, push, webhook| {
            slice("evenkeel-system", address.parse().unwrap(), Ports { push, webhook })
        };
        let wanted = slice("10.0.0.1", 8443, 9443);
        assert!(is_right(&wanted, &wanted));
        for (other, what) in [
            (slice("10.0.0.2", 8443, 9443), "another address"),
            (slice("10.0.0.1", 8444, 9443), "another port for proxies"),
            (slice("10.0.0.1", 8443, 9444), "another port for the API server"),
        ] {
            assert!(!is_right(&other, &wanted), "{what}");
        }
        let mut unready = wanted.clone();
        unready.endpoints[0].conditions = None;
        assert!(!is_right(&unready, &wanted), "nobody said that it is ready");
    }
}
