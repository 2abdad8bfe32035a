//! `TargetGroup`: what answers requests, how it is chosen and how its health is checked.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Duration, HasConditions, LocalReference, StatusCondition, duration_between, seconds};

/// A group of targets that answer the same requests.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "evenkeel.dev",
    version = "v1alpha1",
    kind = "TargetGroup",
    plural = "targetgroups",
    shortname = "tg",
    category = "evenkeel",
    namespaced,
    status = "TargetGroupStatus",
    doc = "A group of targets that answer the same requests.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("the name of a target group consists of lower-case letters, digits and dashes").field_path(".metadata.name"),
    printcolumn(name = "Targets", type_ = "integer", json_path = ".status.targets.total", description = "All targets"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.targets.healthy", description = "Targets that pass their checks"),
    printcolumn(name = "Unhealthy", type_ = "integer", json_path = ".status.targets.unhealthy", description = "Targets that fail their checks"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.targets.draining", description = "Targets that are leaving"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Resolved", type_ = "string", json_path = ".status.conditions[?(@.type=='ResolvedRefs')].status", priority = 1, description = "Whether everything it refers to exists"),
    printcolumn(name = "Load balancers", type_ = "string", json_path = ".status.loadBalancers", priority = 1, description = "Load balancers that forward to it"),
    printcolumn(name = "Algorithm", type_ = "string", json_path = ".spec.algorithm", priority = 1, description = "How a target is chosen")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.targets.addresses) || string(self.port).matches('^[0-9]+$') || self.targets.addresses.all(target, has(target.port))").message("fixed addresses do not know ports by name: write port as a number, or give each address a port"))]
pub struct TargetGroupSpec {
    /// Port of the targets, by number or by the name it has in the pods; with `targets.service` a port of that Service,
    /// by number or name. An address with a port of its own does not use it.
    #[x_kube(validation = Rule::new("string(self).matches('^-?[0-9]{1,9}$') ? self == int(string(self)) && self >= 1 && self <= 65535 : size(string(self)) <= 63 && string(self).matches('[a-z]') && string(self).matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("port is a number from 1 to 65535, without quotes, or the name of a port"))]
    pub port: IntOrString,
    /// What the targets speak. Cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("protocol cannot be changed: create another target group and let the load balancer forward to that"))]
    pub protocol: TargetProtocol,
    /// Where the targets come from.
    pub targets: Targets,
    /// How a target is chosen.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the proxies find out which targets are healthy.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// How long a target that leaves may go on with what is in flight. An upper bound: it is let go as soon as nothing
    /// is in flight. From 0s to 1h.
    #[serde(default = "default_deregistration_delay")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("deregistrationDelay", "0s", "1h", "300s"))]
    pub deregistration_delay: Duration,
}

/// What targets speak.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    HTTP,
    /// Bytes. Only for listeners that speak TCP.
    TCP,
}

/// Where targets come from: exactly one of its members.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.replicaService), has(self.service), has(self.addresses)].exists_one(present, present)").message("targets has exactly one of replicaService, service and addresses: make another target group for the others"))]
pub struct Targets {
    /// The replicas of a ReplicaService in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_service: Option<LocalReference>,
    /// The endpoints of a Service in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<LocalReference>,
    /// Fixed addresses, from 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub addresses: Option<Vec<TargetAddress>>,
}

/// A target at a fixed address.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetAddress {
    /// IPv4 or IPv6 address; not loopback, link-local or multicast, nor of `0.0.0.0/8` or `::/96`.
    #[schemars(with = "String")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self) && ip(self).isGlobalUnicast() && !cidr('0.0.0.0/8').containsIP(self) && !cidr('::/96').containsIP(self)").message("address is the IPv4 or IPv6 address of one machine, such as 10.0.0.7: not a name, and not loopback, link-local or multicast, nor of 0.0.0.0/8 or ::/96"))]
    pub address: IpAddr,
    /// Its port; when absent the group's, which must then be a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The zone it is in, as the nodes' label `topology.kubernetes.io/zone` would say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')").message("zone is what a label may say, such as eu-1a: letters, digits, dashes, dots and underscores, at its ends only letters and digits"))]
    pub zone: Option<String>,
    /// Its share of the requests in relation to the other addresses'. From 1 to 100.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u16,
}

/// How a target is chosen among the healthy ones.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight, in relation to its weight.
    LeastRequest,
}

/// How health is checked.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.timeout.matches('^[0-9.a-z]+$') || !self.interval.matches('^[0-9.a-z]+$') || duration(self.timeout) <= duration(self.interval)").message("timeout is longer than interval: lower timeout or raise interval"))]
pub struct HealthCheck {
    /// How it is asked. When absent: as the group's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TargetProtocol>,
    /// Path of the request. Only for HTTP.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^/[!\"$-~]*$')").message("path begins with a slash, such as /healthz, and has no fragment: write spaces and what is not ASCII with percent-encoding, such as %20"))]
    pub path: String,
    /// A port number, or `traffic-port` for the target's own.
    #[serde(default = "traffic_port")]
    #[x_kube(validation = Rule::new("self == 'traffic-port' || (string(self).matches('^[0-9]{1,5}$') && self == int(string(self)) && self >= 1 && self <= 65535)").message("port is a number from 1 to 65535, without quotes, or traffic-port for the port that gets the requests"))]
    pub port: IntOrString,
    /// Time from one check of a target to the next. From 1s to 300s.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("interval", "1s", "300s", "5s"))]
    pub interval: Duration,
    /// A check without an answer for so long has failed; less than or equal to the interval. From 100ms to 120s.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("timeout", "100ms", "120s", "2s"))]
    pub timeout: Duration,
    /// Successive passed checks after which an unhealthy target is healthy; a new target needs one. From 1 to 10.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 1, max = 10))]
    pub healthy_threshold: u16,
    /// Successive failed checks after which a healthy target is unhealthy. From 1 to 10.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 1, max = 10))]
    pub unhealthy_threshold: u16,
    /// Statuses that pass: numbers from 200 to 499 and ranges of them, with commas: `200-399`, `200,204`. Only for HTTP.
    #[serde(default = "default_matcher")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[2-4][0-9]{2}(-[2-4][0-9]{2})?(,[2-4][0-9]{2}(-[2-4][0-9]{2})?)*$') && self.split(',').all(range, range.split('-')[0] <= range.split('-')[size(range.split('-')) - 1])").message("matcher lists statuses from 200 to 499 and ranges of them, lower one first, with commas: 200-399 or 200,204"))]
    pub matcher: String,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: None,
            path: default_path(),
            port: traffic_port(),
            interval: default_interval(),
            timeout: default_timeout(),
            healthy_threshold: default_threshold(),
            unhealthy_threshold: default_threshold(),
            matcher: default_matcher(),
        }
    }
}

/// What the operator last saw of a TargetGroup.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Names of the load balancers that forward to this group.
    #[serde(default)]
    pub load_balancers: Vec<String>,
    /// How many targets there are, by state.
    #[serde(default)]
    pub targets: TargetCounts,
    /// The state of each target and why, worst first, at most 100.
    #[serde(default)]
    pub target_health: Vec<TargetHealth>,
    /// `Accepted`, `ResolvedRefs` and `Healthy`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<StatusCondition>,
}

impl HasConditions for TargetGroupStatus {
    fn conditions(&self) -> &[StatusCondition] {
        &self.conditions
    }
}

/// How many targets there are, by state.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TargetCounts {
    /// All of them.
    pub total: i32,
    /// Passed their checks.
    pub healthy: i32,
    /// Failed their checks.
    pub unhealthy: i32,
    /// Not yet checked.
    pub initial: i32,
    /// Leaving: they finish what is in flight and get nothing new.
    pub draining: i32,
}

/// The state of one target, as the proxies see it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetHealth {
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The zone it is in, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The node it is on, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its state.
    pub state: TargetState,
    /// Why, in one word, as in Elastic Load Balancing: `Target.Timeout`, `Target.ResponseCodeMismatch`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
}

/// The states of a target.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetState {
    /// Failed its checks.
    Unhealthy,
    /// Leaving.
    Draining,
    /// Not yet checked.
    Initial,
    /// Passed its checks.
    Healthy,
}

fn default_deregistration_delay() -> Duration {
    seconds(300)
}

fn default_weight() -> u16 {
    1
}

fn default_path() -> String {
    "/".into()
}

fn traffic_port() -> IntOrString {
    IntOrString::String("traffic-port".into())
}

fn default_interval() -> Duration {
    seconds(5)
}

fn default_timeout() -> Duration {
    seconds(2)
}

fn default_threshold() -> u16 {
    2
}

fn default_matcher() -> String {
    "200-399".into()
}
