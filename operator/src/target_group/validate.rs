//! Pure: a TargetGroup becomes a valid one, or says what is wrong with it. No client.

use evenkeel_crds::v1alpha1 as api;
use evenkeel_crds::v1alpha1::TargetGroup;
use evenkeel_proxy_api::snapshot;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::object_key::ObjectKey;
use crate::registry::{Port, TargetSource, ValidTargetGroup};
use crate::validation::{Problems, seconds};

const TRAFFIC_PORT: &str = "traffic-port";
const MAX_ADDRESSES: usize = 1000;

/// Checks everything that can be said without looking at other objects.
pub fn validate(object: &TargetGroup) -> Result<ValidTargetGroup, Problems> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    let port = port(&mut problems, "spec.port", &spec.port);
    let delay =
        problems.duration("spec.deregistrationDelay", spec.deregistration_delay, seconds(0)..=seconds(3600));
    let health_check = health_check(&mut problems, spec);
    let source = source(&mut problems, &spec.targets, port);
    let algorithm = match spec.algorithm {
        api::Algorithm::RoundRobin => snapshot::Algorithm::RoundRobin,
        api::Algorithm::LeastRequest => snapshot::Algorithm::LeastRequest,
    };
    let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let (Some(source), protocol) = (source, protocol(spec.protocol)) else { return Err(problems) };
    problems.check(ValidTargetGroup {
        key,
        generation: object.metadata.generation.unwrap_or_default(),
        protocol,
        algorithm,
        health_check,
        deregistration_delay: delay,
        source,
        deleting: object.meta().deletion_timestamp.is_some(),
    })
}

fn protocol(protocol: api::TargetProtocol) -> snapshot::TargetProtocol {
    match protocol {
        api::TargetProtocol::HTTP => snapshot::TargetProtocol::Http,
        api::TargetProtocol::TCP => snapshot::TargetProtocol::Tcp,
    }
}

fn port(problems: &mut Problems, field: &str, port: &IntOrString) -> Option<Port> {
    match port {
        IntOrString::Int(number) => {
            let number = u16::try_from(*number).ok().filter(|number| *number > 0);
            problems.require(number.is_some(), field, "use a number from 1 to 65535, or a port's name");
            number.map(Port::Number)
        }
        IntOrString::String(name) => {
            let fits = (1..=63).contains(&name.len()) && name.bytes().any(|byte| byte.is_ascii_lowercase());
            problems.require(
                fits,
                field,
                format!("{name:?} is no port's name; numbers are written without quotes"),
            );
            fits.then(|| Port::Name(name.clone()))
        }
    }
}

/// Where the targets come from; absent when that makes no sense, and then there is a problem.
fn source(problems: &mut Problems, targets: &api::Targets, port: Option<Port>) -> Option<TargetSource> {
    match targets {
        api::Targets { replica_service: Some(service), service: None, addresses: None } => {
            Some(TargetSource::ReplicaService { name: service.name.clone(), port: port? })
        }
        api::Targets { replica_service: None, service: Some(service), addresses: None } => {
            Some(TargetSource::Service { name: service.name.clone(), port: port? })
        }
        api::Targets { replica_service: None, service: None, addresses: Some(addresses) } => {
            Some(TargetSource::Addresses(fixed(problems, addresses, port.as_ref())))
        }
        _ => {
            problems.add("spec.targets", "give exactly one of replicaService, service and addresses");
            None
        }
    }
}

fn fixed(
    problems: &mut Problems,
    addresses: &[api::TargetAddress],
    port: Option<&Port>,
) -> Vec<snapshot::Target> {
    let field = "spec.targets.addresses";
    problems.require(
        addresses.len() <= MAX_ADDRESSES,
        field,
        format!("{} are more than {MAX_ADDRESSES}; use a Service, or several target groups", addresses.len()),
    );
    let mut targets: Vec<_> =
        addresses.iter().filter_map(|address| target(problems, address, port)).collect();
    problems.unique(field, targets.iter().map(|target| &target.id));
    targets.sort_by(|one, other| one.id.cmp(&other.id));
    targets
}

fn target(
    problems: &mut Problems,
    address: &api::TargetAddress,
    port: Option<&Port>,
) -> Option<snapshot::Target> {
    let field = format!("spec.targets.addresses[{}]", address.address);
    problems.range(format!("{field}.weight"), address.weight, 1..=100);
    problems.require(
        !address.address.is_unspecified() && !address.address.is_multicast(),
        &field,
        "this is no host's address",
    );
    let ((Some(port), _) | (None, Some(&Port::Number(port)))) = (address.port, port) else {
        problems.add(&field, "needs a port, because spec.port is not a number");
        return None;
    };
    problems.require(port > 0, format!("{field}.port"), "use a number from 1 to 65535");
    Some(snapshot::Target {
        id: std::net::SocketAddr::new(address.address, port).to_string(),
        address: address.address,
        port,
        zone: address.zone.clone().unwrap_or_default(),
        node: String::new(),
        weight: address.weight,
        drain: None,
    })
}

fn health_check(problems: &mut Problems, spec: &api::TargetGroupSpec) -> snapshot::HealthCheck {
    let check = &spec.health_check;
    let field = |name: &str| format!("spec.healthCheck.{name}");
    let protocol = protocol(check.protocol.unwrap_or(spec.protocol));
    let interval = problems.duration(field("interval"), check.interval, seconds(1)..=seconds(300));
    let timeout = problems.duration(
        field("timeout"),
        check.timeout,
        std::time::Duration::from_millis(100)..=seconds(120),
    );
    problems.require(timeout <= interval, field("timeout"), "must not be longer than the interval");
    problems.range(field("healthyThreshold"), check.healthy_threshold, 1..=10);
    problems.range(field("unhealthyThreshold"), check.unhealthy_threshold, 1..=10);
    let fits = check.path.starts_with('/') && check.path.bytes().all(|byte| byte.is_ascii_graphic());
    problems.require(fits, field("path"), "begin with a slash, without spaces");
    let port = match &check.port {
        IntOrString::String(port) if port == TRAFFIC_PORT => None,
        IntOrString::Int(port) if (1..=65535).contains(port) => u16::try_from(*port).ok(),
        _ => {
            problems.add(field("port"), "use a number from 1 to 65535, or traffic-port");
            None
        }
    };
    snapshot::HealthCheck {
        protocol,
        path: check.path.clone(),
        port,
        interval,
        timeout,
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
        matcher: matcher(problems, &field("matcher"), &check.matcher),
    }
}

/// `200`, `200-299`, `200,204,300-399`.
fn matcher(problems: &mut Problems, field: &str, matcher: &str) -> Vec<snapshot::StatusRange> {
    let ranges: Option<Vec<_>> = matcher.split(',').map(status_range).collect();
    problems.require(
        ranges.is_some(),
        field,
        format!("{matcher:?} is not understood; write statuses from 200 to 499 and ranges, such as 200-399 or 200,204"),
    );
    ranges.unwrap_or_default()
}

fn status_range(text: &str) -> Option<snapshot::StatusRange> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (200..=499).contains(status));
    let (from, to) = (status(from)?, status(to)?);
    (from <= to).then_some(snapshot::StatusRange { from, to })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(more: Value) -> TargetGroup {
        let mut spec = json!({ "port": 8080, "targets": { "replicaService": { "name": "api" } } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "TargetGroup",
            "metadata": { "name": "api", "namespace": "default", "generation": 2 },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn each_contradiction_is_named_with_its_field() {
        let address = |more: Value| {
            let mut address = json!({ "address": "10.0.0.7" });
            address.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            address
        };
        let addresses = |list: Value| json!({ "targets": { "addresses": list } });
        for (spec, sentence) in [
            (json!({ "port": 0 }), "spec.port: use a number from 1 to 65535"),
            (json!({ "port": "8080" }), "spec.port: \"8080\" is no port's name"),
            (json!({ "targets": {} }), "spec.targets: give exactly one of"),
            (
                json!({ "targets": { "service": { "name": "a" }, "replicaService": { "name": "b" } } }),
                "spec.targets: give exactly one of",
            ),
            (
                addresses(json!([address(json!({ "weight": 0 }))])),
                "spec.targets.addresses[10.0.0.7].weight: 0",
            ),
            (
                addresses(json!([address(json!({})), address(json!({ "port": 8080 }))])),
                "spec.targets.addresses: 10.0.0.7:8080 appears twice",
            ),
            (addresses(json!([{ "address": "0.0.0.0" }])), "this is no host's address"),
            (
                json!({ "port": "http", "targets": { "addresses": [{ "address": "10.0.0.7" }] } }),
                "needs a port, because spec.port is not a number",
            ),
            (json!({ "deregistrationDelay": "61m" }), "spec.deregistrationDelay: "),
            (json!({ "healthCheck": { "interval": "500ms" } }), "spec.healthCheck.interval: "),
            (
                json!({ "healthCheck": { "interval": "5s", "timeout": "6s" } }),
                "must not be longer than the interval",
            ),
            (json!({ "healthCheck": { "healthyThreshold": 0 } }), "spec.healthCheck.healthyThreshold: 0"),
            (
                json!({ "healthCheck": { "unhealthyThreshold": 11 } }),
                "spec.healthCheck.unhealthyThreshold: 11",
            ),
            (json!({ "healthCheck": { "path": "healthz" } }), "spec.healthCheck.path: begin with a slash"),
            (json!({ "healthCheck": { "path": "/a b" } }), "spec.healthCheck.path: begin with a slash"),
            (json!({ "healthCheck": { "port": "http" } }), "spec.healthCheck.port: use a number"),
            (
                json!({ "healthCheck": { "matcher": "2xx" } }),
                "spec.healthCheck.matcher: \"2xx\" is not understood",
            ),
            (json!({ "healthCheck": { "matcher": "399-200" } }), "spec.healthCheck.matcher: "),
            (json!({ "healthCheck": { "matcher": "500" } }), "spec.healthCheck.matcher: "),
        ] {
            let problems = validate(&group(spec.clone())).expect_err(&format!("{spec} was accepted"));
            assert!(
                problems.message().contains(sentence),
                "{spec}\n{}\nlacks\n{sentence}",
                problems.message()
            );
        }
    }

    #[test]
    fn the_health_check_speaks_the_group_s_protocol_unless_told_otherwise() {
        let tcp = validate(&group(json!({ "protocol": "TCP" }))).unwrap();
        assert_eq!(tcp.health_check.protocol, snapshot::TargetProtocol::Tcp);
        let http =
            validate(&group(json!({ "protocol": "TCP", "healthCheck": { "protocol": "HTTP", "port": 81 } })));
        let check = http.unwrap().health_check;
        assert_eq!((check.protocol, check.port), (snapshot::TargetProtocol::Http, Some(81)));
    }

    #[test]
    fn addresses_are_identified_by_address_and_port_and_ordered() {
        let spec = json!({ "targets": { "addresses": [
            { "address": "fd00::1", "port": 1 }, { "address": "10.0.0.7", "zone": "a", "weight": 3 },
        ] } });
        let TargetSource::Addresses(targets) = validate(&group(spec)).unwrap().source else {
            panic!("no addresses")
        };
        assert_eq!(
            targets.iter().map(|target| target.id.as_str()).collect::<Vec<_>>(),
            ["10.0.0.7:8080", "[fd00::1]:1"]
        );
        assert_eq!((targets[0].weight, targets[0].zone.as_str()), (3, "a"));
    }

    #[test]
    fn matchers_are_lists_of_statuses_and_ranges() {
        let valid = validate(&group(json!({ "healthCheck": { "matcher": "200,204, 300-399" } }))).unwrap();
        let ranges: Vec<_> = valid.health_check.matcher.iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(ranges, [(200, 200), (204, 204), (300, 399)]);
    }
}
