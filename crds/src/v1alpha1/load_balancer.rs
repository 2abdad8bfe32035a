//! `LoadBalancer`: listeners and rules, served by a set of proxies.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Duration, StatusCondition, seconds};

/// A load balancer: ports that are listened on, and rules that say which target group answers.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "evenkeel.dev",
    version = "v1alpha1",
    kind = "LoadBalancer",
    plural = "loadbalancers",
    shortname = "lb",
    category = "evenkeel",
    namespaced,
    status = "LoadBalancerStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerSpec {
    /// How many proxies serve this load balancer, spread over zones and nodes. From 1 to 100.
    #[serde(default = "default_replicas")]
    pub replicas: u16,
    /// The Service through which clients reach the proxies.
    #[serde(default)]
    pub service: ServiceSpec,
    /// How long a stopping proxy lets requests in flight finish. From 0s to 1h.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: Duration,
    /// While true, deleting this load balancer is refused: it stays, with a condition that says so, until this is set to false.
    #[serde(default)]
    pub deletion_protection: bool,
    /// The ports to listen on, at least one, at most 50.
    pub listeners: Vec<Listener>,
}

/// How the proxies are exposed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Kind of Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations of the Service: how cloud providers' balancers and external-dns are configured.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `Local` keeps the client's address and avoids a hop; `Cluster` answers on every node. When absent: `Local` for
    /// LoadBalancer, `Cluster` for NodePort. Not allowed for ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// Kind of Service in front of the proxies.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// An address from the cloud provider or a load-balancer controller.
    #[default]
    LoadBalancer,
    /// A port on every node.
    NodePort,
    /// Reachable inside the cluster only.
    ClusterIP,
}

/// Which nodes answer for the Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalTrafficPolicy {
    /// Only nodes with a proxy; the client's address is kept.
    Local,
    /// Every node; the client's address may be replaced by a node's.
    Cluster,
}

/// A port that is listened on and what happens to what arrives there.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Name of the listener, unique in this load balancer; also the name of the Service's port.
    pub name: String,
    /// Port of the Service; the proxies listen on the same number. Unique in this load balancer.
    pub port: u16,
    /// What is spoken on this port.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// The port on every node. When absent the cluster chooses one. Not allowed for ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// Like a security group: the networks that may connect, checked when a connection is accepted.
    #[serde(default = "everyone")]
    #[schemars(with = "Vec<String>")]
    pub allowed_sources: Vec<IpNet>,
    /// A client connection without a byte in either direction for so long is closed. From 1s to 4000s.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Duration,
    /// What to do with which requests, lowest priority first. Only for HTTP.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What to do when no rule matches.
    pub default_action: Action,
}

/// What is spoken on a listener's port.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 without TLS (h2c), WebSocket upgrades included.
    #[default]
    HTTP,
    /// Bytes, passed to one target per connection.
    TCP,
}

/// Conditions, all of which must hold, and the action taken then.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Rules are tried from the lowest to the highest. From 1 to 50000, unique in the listener.
    pub priority: u32,
    /// All must hold; within one, any value suffices. At least one, at most 5 values in all.
    pub conditions: Vec<Condition>,
    /// What to do with a request that matches.
    pub action: Action,
}

/// One condition on a request: exactly one of its members.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The path, without the query; case-sensitive; `*` matches any characters, `?` exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Patterns>,
    /// The host, without the port; not case-sensitive; `*` and `?` as for paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Patterns>,
    /// A header's value; not case-sensitive; `*` and `?` as for paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderCondition>,
    /// The method, exactly as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Patterns>,
    /// A pair of the query string; not case-sensitive; `*` and `?` as for paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryCondition>,
    /// The address of the connection's other end (not of X-Forwarded-For).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<SourceIpCondition>,
}

/// Values, of which any may match.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Patterns {
    /// From 1 to 5 values of at most 128 characters.
    pub values: Vec<String>,
}

/// A header and the values it may have.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCondition {
    /// Name of the header; not case-sensitive.
    pub name: String,
    /// From 1 to 5 values of at most 128 characters.
    pub values: Vec<String>,
}

/// Pairs of a query string.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueryCondition {
    /// From 1 to 5 pairs, of which any may match.
    pub pairs: Vec<QueryPair>,
}

/// A pair of a query string.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueryPair {
    /// The key; when absent any key will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value.
    pub value: String,
}

/// Networks of clients.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceIpCondition {
    /// From 1 to 5 networks in CIDR notation, of which any may contain the client's address.
    #[schemars(with = "Vec<String>")]
    pub values: Vec<IpNet>,
}

/// What to do with a request: exactly one of its members.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Pass it to a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
    /// Send the client elsewhere. Only for HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answer it here. Only for HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_response: Option<FixedResponse>,
}

/// Target groups and their shares.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// From 1 to 5 target groups; each request goes to one of them, chosen by weight.
    pub target_groups: Vec<WeightedTargetGroup>,
}

/// A target group and its share of the requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WeightedTargetGroup {
    /// Name of a TargetGroup in this namespace.
    pub name: String,
    /// Its share is its weight over the sum of all weights. From 0 to 999; 0 sends nothing there.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

/// Where to send the client. `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and `#{query}` stand for the request's own.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// 301 (permanent) or 302 (temporary).
    pub status_code: u16,
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    #[serde(default = "keep_protocol")]
    pub protocol: String,
    /// A host name or `#{host}`.
    #[serde(default = "keep_host")]
    pub host: String,
    /// A port number or `#{port}`.
    #[serde(default = "keep_port")]
    pub port: String,
    /// An absolute path.
    #[serde(default = "keep_path")]
    pub path: String,
    /// The query without its question mark; empty for none.
    #[serde(default = "keep_query")]
    pub query: String,
}

/// An answer that needs no target.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FixedResponse {
    /// A status of 2XX, 4XX or 5XX.
    pub status_code: u16,
    /// Media type of the body.
    #[serde(default)]
    pub content_type: ContentType,
    /// The body, at most 1024 characters.
    #[serde(default)]
    pub message_body: String,
}

/// Media types of fixed responses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ContentType {
    /// Plain text.
    #[default]
    #[serde(rename = "text/plain")]
    TextPlain,
    /// A style sheet.
    #[serde(rename = "text/css")]
    TextCss,
    /// A page.
    #[serde(rename = "text/html")]
    TextHtml,
    /// A script.
    #[serde(rename = "application/javascript")]
    ApplicationJavascript,
    /// JSON.
    #[serde(rename = "application/json")]
    ApplicationJson,
}

/// What the operator last saw of a LoadBalancer.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// IP addresses through which clients reach the listeners.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Host name through which clients reach the listeners, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    /// The proxies of this load balancer.
    #[serde(default)]
    pub proxies: ProxyCounts,
    /// One entry per listener.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<ListenerStatus>,
    /// `Accepted`, `ResolvedRefs`, `Programmed` (every proxy acknowledged this generation) and `Ready`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<StatusCondition>,
}

/// How many proxies there are.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCounts {
    /// Asked for by the spec.
    pub desired: i32,
    /// Ready to take connections.
    pub ready: i32,
    /// Acknowledged the current generation.
    pub up_to_date: i32,
}

/// What the operator last saw of a listener.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: String,
    /// The port on every node, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// `Accepted`, `ResolvedRefs` and `Programmed` for this listener alone.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<StatusCondition>,
}

fn default_replicas() -> u16 {
    2
}

fn default_drain_timeout() -> Duration {
    seconds(60)
}

fn default_idle_timeout() -> Duration {
    seconds(60)
}

fn everyone() -> Vec<IpNet> {
    vec![
        IpNet::new_assert(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        IpNet::new_assert(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 0),
    ]
}

fn default_weight() -> u16 {
    1
}

fn keep_protocol() -> String {
    "#{protocol}".into()
}

fn keep_host() -> String {
    "#{host}".into()
}

fn keep_port() -> String {
    "#{port}".into()
}

fn keep_path() -> String {
    "/#{path}".into()
}

fn keep_query() -> String {
    "#{query}".into()
}
