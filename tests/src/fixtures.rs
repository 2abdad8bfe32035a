//! The objects that tests begin with: small, quick to change their minds, easy on a machine that runs a whole cluster.

use anyhow::{Context as _, Result};
use evenkeel_crds::v1alpha1::{Action, Listener, LoadBalancer, ReplicaService, Rule, TargetGroup};
use kube::Resource;
use serde::de::DeserializeOwned;

/// Two to six replicas of the application, named `web`. No policy scales them.
///
/// # Errors
/// When the template does not fit the type.
pub fn web(image: &str) -> Result<ReplicaService> {
    parse(&include_str!("fixtures/web.yaml").replace("IMAGE", image))
}

/// A target group `web` of those replicas, checked each second.
///
/// # Errors
/// When the template does not fit the type.
pub fn web_group() -> Result<TargetGroup> {
    parse(include_str!("fixtures/web-group.yaml"))
}

/// A load balancer `shop` with one proxy and one listener `http`, which forwards everything to `web`.
///
/// # Errors
/// When the template does not fit the type.
pub fn balancer(node_port: u16) -> Result<LoadBalancer> {
    let mut balancer: LoadBalancer = parse(include_str!("fixtures/shop.yaml"))?;
    for listener in &mut balancer.spec.listeners {
        listener.node_port = Some(node_port);
    }
    Ok(balancer)
}

/// The same load balancer, which answers everything itself, with that body.
///
/// # Errors
/// When the template does not fit the type.
pub fn answering(node_port: u16, body: &str) -> Result<LoadBalancer> {
    let mut balancer = balancer(node_port)?;
    for listener in &mut balancer.spec.listeners {
        listener.default_action =
            action(&format!("{{fixedResponse: {{statusCode: 200, messageBody: {body}}}}}"))?;
    }
    Ok(balancer)
}

/// The same under another name.
pub fn named<K: Resource>(mut object: K, name: &str) -> K {
    object.meta_mut().name = Some(name.into());
    object
}

/// A listener of that YAML.
///
/// # Errors
/// When it does not fit the type.
pub fn listener(yaml: &str) -> Result<Listener> {
    parse(yaml)
}

/// A rule with those conditions (a YAML list) and that action.
///
/// # Errors
/// When they do not fit the types.
pub fn rule(priority: u32, conditions: &str, action: &str) -> Result<Rule> {
    Ok(Rule { priority, conditions: parse(conditions)?, action: parse(action)?, limits: None })
}

/// An action of that YAML.
///
/// # Errors
/// When it does not fit the type.
pub fn action(yaml: &str) -> Result<Action> {
    parse(yaml)
}

fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T> {
    serde_saphyr::from_str(yaml).with_context(|| format!("not what was expected:\n{yaml}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_fit_their_types() {
        let web = web("localhost/app:1").unwrap();
        assert_eq!(web.spec.template["spec"]["containers"][0]["image"], "localhost/app:1");
        assert_eq!(web_group().unwrap().spec.targets.replica_service.unwrap().name, "web");
        assert_eq!(balancer(30081).unwrap().spec.listeners[0].node_port, Some(30081));
        let rule = rule(10, "[{path: {values: [/a]}}]", "{fixedResponse: {statusCode: 404}}").unwrap();
        assert_eq!(rule.action.fixed_response.unwrap().status_code, 404);
    }
}
