//! What was accepted and where its targets are → what the proxies of a load balancer must know. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_proxy_api::snapshot::{
    Algorithm, HealthCheck, Snapshot, Target, TargetGroup, TargetProtocol, Version,
};

use crate::registry::{Accepted, ObjectKey, ValidLoadBalancer};

/// The snapshot of a load balancer, but for its version. A group that rules forward to and that was never accepted is
/// there without targets: requests to it are answered with 503 and the balancer's condition says why.
pub fn snapshot(
    load_balancer: &ValidLoadBalancer,
    accepted: &Accepted,
    targets: impl Fn(&ObjectKey) -> Arc<Vec<Target>>,
) -> Snapshot {
    let groups = load_balancer.target_groups().map(|name| {
        let key = load_balancer.key.sibling(name);
        let group = match accepted.target_groups.get(&key) {
            Some(valid) => TargetGroup {
                protocol: valid.protocol,
                algorithm: valid.algorithm,
                health_check: valid.health_check.clone(),
                targets: targets(&key).to_vec(),
            },
            None => TargetGroup {
                protocol: TargetProtocol::default(),
                algorithm: Algorithm::default(),
                health_check: HealthCheck::default(),
                targets: Vec::new(),
            },
        };
        (name.to_owned(), group)
    });
    Snapshot {
        version: Version::default(),
        listeners: load_balancer.listeners.clone(),
        target_groups: groups.collect::<BTreeMap<_, _>>(),
    }
}
