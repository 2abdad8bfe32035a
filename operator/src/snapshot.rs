//! What was accepted and where its targets are → what the proxies of a load balancer must know. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_proxy_api::snapshot::{
    Action, Algorithm, FixedResponse, HealthCheck, Listener, ListenerProtocol, Snapshot, Target, TargetGroup,
    TargetProtocol, Version,
};

use crate::object_key::ObjectKey;
use crate::registry::{Accepted, ValidLoadBalancer};

/// The snapshot of a load balancer, but for its version. A group that rules forward to and that was never accepted is
/// there without targets: requests to it are answered with 503 and the balancer's condition says why. A group that does
/// not speak what the listener does is left out: a proxy would reject the whole listener for it.
pub fn snapshot(
    load_balancer: &ValidLoadBalancer,
    accepted: &Accepted,
    targets: impl Fn(&ObjectKey) -> Arc<Vec<Target>>,
) -> Snapshot {
    let speaks =
        |name: &str| accepted.target_groups.get(&load_balancer.key.sibling(name)).map(|group| group.protocol);
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
        listeners: load_balancer
            .listeners
            .iter()
            .filter_map(|(name, listener)| Some((name.clone(), fitting(listener, speaks)?)))
            .collect(),
        target_groups: groups.collect::<BTreeMap<_, _>>(),
    }
}

/// A listener without forwards to groups that speak something else; nothing when it could do nothing then.
fn fitting(listener: &Listener, speaks: impl Fn(&str) -> Option<TargetProtocol>) -> Option<Listener> {
    let wanted = protocol_of_targets(listener.protocol);
    let fits = |group: &str| speaks(group).is_none_or(|protocol| protocol == wanted);
    let mut listener = listener.clone();
    let rules = listener.rules.iter_mut().map(|rule| &mut rule.action);
    for action in rules.chain([&mut listener.default_action]) {
        let Action::Forward { target_groups } = action else { continue };
        target_groups.retain(|group| fits(&group.name));
        if target_groups.is_empty() {
            match listener.protocol {
                ListenerProtocol::Http => *action = nobody_fits(),
                ListenerProtocol::Tcp => return None,
            }
        }
    }
    Some(listener)
}

/// What the targets of a listener must speak.
pub fn protocol_of_targets(listener: ListenerProtocol) -> TargetProtocol {
    match listener {
        ListenerProtocol::Http => TargetProtocol::Http,
        ListenerProtocol::Tcp => TargetProtocol::Tcp,
    }
}

fn nobody_fits() -> Action {
    Action::FixedResponse(FixedResponse {
        status_code: 503,
        content_type: "text/plain".into(),
        message_body: "503 the targets for this do not speak HTTP\n".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(yaml: serde_json::Value) -> Listener {
        serde_json::from_value(yaml).unwrap()
    }

    fn forward(groups: &[&str]) -> serde_json::Value {
        let groups: Vec<_> =
            groups.iter().map(|name| serde_json::json!({"name": name, "weight": 1})).collect();
        serde_json::json!({"forward": {"targetGroups": groups}})
    }

    fn speaks(group: &str) -> Option<TargetProtocol> {
        match group {
            "web" => Some(TargetProtocol::Http),
            "echo" => Some(TargetProtocol::Tcp),
            _ => None,
        }
    }

    #[test]
    fn a_group_that_speaks_something_else_does_not_keep_the_rest_from_serving() {
        let rule = |priority: u32, groups: &[&str]| serde_json::json!({"priority": priority, "conditions": [], "action": forward(groups)});
        let made = listener(serde_json::json!({
            "port": 80, "protocol": "HTTP",
            "rules": [rule(1, &["echo"]), rule(2, &["echo", "web"]), rule(3, &["missing"])],
            "defaultAction": forward(&["web"]),
        }));
        let made = fitting(&made, speaks).unwrap();
        let actions: Vec<_> = made.rules.iter().map(|rule| rule.action.clone()).collect();
        let expected = [forward(&["web"]), forward(&["missing"])];
        let expected = expected.map(|action| serde_json::from_value(action).unwrap());
        assert_eq!(actions, [&[nobody_fits()][..], &expected].concat());
        assert_eq!(made.default_action, serde_json::from_value(forward(&["web"])).unwrap());
    }

    #[test]
    fn a_tcp_listener_whose_targets_speak_http_is_left_out() {
        let made = |group: &str| {
            let yaml =
                serde_json::json!({"port": 5432, "protocol": "TCP", "defaultAction": forward(&[group])});
            fitting(&listener(yaml), speaks)
        };
        assert!(made("echo").is_some() && made("missing").is_some());
        assert!(made("web").is_none());
    }
}
