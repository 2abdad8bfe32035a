//! `LoadBalancer`: listeners and rules, served by a set of proxies.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::common::{
    DNS_LABEL, Duration, HasConditions, StatusCondition, duration_between, networks, seconds,
};
use super::limits::{ListenerLimits, RuleLimits};

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
    status = "LoadBalancerStatus",
    doc = "A load balancer: ports that are listened on, and rules that say which target group answers.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the Service gets the name of the load balancer: use lower-case letters, digits and dashes, beginning with a letter").field_path(".metadata.name"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0]", description = "The first address through which clients reach it"),
    printcolumn(name = "Proxies", type_ = "integer", json_path = ".status.proxies.ready", description = "Proxies that are ready"),
    printcolumn(name = "Programmed", type_ = "string", json_path = ".status.conditions[?(@.type=='Programmed')].status", description = "Whether every proxy has the current configuration"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether it serves"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.service.type", priority = 1, description = "Kind of Service in front of the proxies"),
    printcolumn(name = "DNS name", type_ = "string", json_path = ".status.dnsName", priority = 1, description = "The host name through which clients reach it"),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas", priority = 1, description = "Proxies that are wanted"),
    printcolumn(name = "Up to date", type_ = "integer", json_path = ".status.proxies.upToDate", priority = 1, description = "Proxies that have the current configuration")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.listeners.all(a, self.listeners.exists_one(b, b.port == a.port))").message("two listeners have the same port: give each listener a port of its own"))]
#[x_kube(validation = Rule::new("self.listeners.all(a, !has(a.nodePort) || self.listeners.exists_one(b, has(b.nodePort) && b.nodePort == a.nodePort))").message("two listeners have the same nodePort: give each listener a nodePort of its own, or leave it out and the cluster chooses one"))]
#[x_kube(validation = Rule::new("self.service.type != 'ClusterIP' || self.listeners.all(l, !has(l.nodePort))").message("a Service of type ClusterIP has no node ports: leave out nodePort, or set service.type to NodePort or LoadBalancer"))]
#[x_kube(validation = Rule::new("self.listeners.map(l, size(l.rules)).sum() <= 1000").message("a load balancer has at most 1000 rules, all listeners together: move some listeners to another load balancer"))]
pub struct LoadBalancerSpec {
    /// How many proxies serve this load balancer, spread over zones and nodes. From 1 to 100.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: u16,
    /// The Service through which clients reach the proxies.
    #[serde(default)]
    pub service: ServiceSpec,
    /// How long a stopping proxy lets requests in flight finish. From 0s to 1h.
    #[serde(default = "default_drain_timeout")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("drainTimeout", "0s", "1h", "60s"))]
    pub drain_timeout: Duration,
    /// Whether each proxy prints a line of JSON to its standard output for each request and TCP session that is over. Changing
    /// this replaces the proxies, one after the other.
    #[serde(default)]
    pub access_log: bool,
    /// While true, deleting this load balancer is refused: it stays, with a condition that says so, until this is set to false.
    #[serde(default)]
    pub deletion_protection: bool,
    /// The ports to listen on, at least one, at most 50.
    #[schemars(length(min = 1, max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<Listener>,
}

/// How the proxies are exposed.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)").message("a Service of type ClusterIP has no external traffic: leave out externalTrafficPolicy, or set type to NodePort or LoadBalancer"))]
pub struct ServiceSpec {
    /// Kind of Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations of the Service: how cloud providers' balancers and external-dns are configured.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 50))]
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
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.protocol != 'TCP' || size(self.rules) == 0").message("a TCP listener has no rules: leave them out, its defaultAction takes every connection"))]
#[x_kube(validation = Rule::new("self.protocol != 'TCP' || !has(self.limits) || !has(self.limits.bodyBytes)").message("a TCP listener has no requests and no bodies: leave out limits.bodyBytes"))]
#[x_kube(validation = Rule::new("self.protocol != 'TCP' || (has(self.defaultAction.forward) && size(self.defaultAction.forward.targetGroups) == 1)").message("a TCP listener can only forward to one target group: write defaultAction: {forward: {targetGroups: [{name: ...}]}}"))]
pub struct Listener {
    /// Name of the listener, unique in this load balancer; also the name of the Service's port.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Port of the Service; the proxies listen on the same number. Unique in this load balancer, and not 9902, where
    /// the proxies answer health checks and metrics.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self != 9902").message("port 9902 is where the proxies answer health checks and metrics: choose another port"))]
    pub port: u16,
    /// What is spoken on this port.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// The port on every node, in the range that the cluster is configured for: 30000 to 32767 unless it says otherwise.
    /// When absent the cluster chooses one. Not allowed for ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 65535))]
    pub node_port: Option<u16>,
    /// Like a security group: the networks that may connect, in CIDR notation, checked when a
    /// connection is accepted. From 1 to 100.
    #[serde(default = "everyone")]
    #[schemars(schema_with = "allowed_sources")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_sources: Vec<IpNet>,
    /// A client connection without a byte in either direction for so long is closed. From 1s to 4000s.
    #[serde(default = "default_idle_timeout")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("idleTimeout", "1s", "4000s", "60s"))]
    pub idle_timeout: Duration,
    /// What it takes at most.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// What to do with which requests, lowest priority first. Only for HTTP. At most 1000, all listeners together.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["priority".into()]))]
    pub rules: Vec<super::Rule>, // by its path, because the derive brings a `Rule` of its own into scope
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
    #[schemars(range(min = 1, max = 50000))]
    pub priority: u32,
    /// All must hold; within one, any value suffices. From 1 to 5.
    #[schemars(length(min = 1, max = 5))]
    pub conditions: Vec<Condition>,
    /// What to do with a request that matches.
    pub action: Action,
    /// What such requests may have at most, where it is not what the listener says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RuleLimits>,
}

/// One condition on a request: exactly one of its members. In patterns `*` matches any characters, or none, and `?` exactly
/// one byte; a backslash takes what follows it literally: `\*`, `\?`, `\\`.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.path), has(self.host), has(self.header), has(self.method), has(self.query), has(self.sourceIp)].exists_one(present, present)").message("a condition has exactly one of path, host, header, method, query and sourceIp: write several conditions if all must hold"))]
pub struct Condition {
    /// The path, without the query, as the client wrote it: percent-encoding is not decoded, so a space is `%20`.
    /// Patterns; case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_patterns")]
    pub path: Option<Patterns>,
    /// The host, without the port. Patterns; not case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "host_patterns")]
    pub host: Option<Patterns>,
    /// The value of a header. Patterns; not case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderCondition>,
    /// The method, exactly as written: no patterns, and case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "methods")]
    pub method: Option<Patterns>,
    /// A pair of the query string, as the client wrote it: percent-encoding is not decoded, and a space is what the
    /// client made of it, `%20` or `+`. Patterns; not case-sensitive.
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
    #[schemars(length(min = 1, max = 40), regex(pattern = TOKEN))]
    pub name: String,
    /// From 1 to 5 values of at most 128 characters, without spaces at their ends.
    #[schemars(length(min = 1, max = 5), inner(length(min = 1, max = 128), regex(pattern = HEADER_VALUE)))]
    pub values: Vec<String>,
}

/// Pairs of a query string.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueryCondition {
    /// From 1 to 5 pairs, of which any may match.
    #[schemars(length(min = 1, max = 5))]
    pub pairs: Vec<QueryPair>,
}

/// A pair of a query string.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueryPair {
    /// The key; when absent any key will do. Without `&`, `=`, `#`, spaces, and what is not ASCII.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = QUERY_KEY))]
    pub key: Option<String>,
    /// The value; `*` if any will do, or none. Without `&`, `#`, spaces, and what is not ASCII.
    #[schemars(length(min = 1, max = 128), regex(pattern = QUERY_VALUE))]
    pub value: String,
}

/// Networks of clients.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceIpCondition {
    /// From 1 to 5 networks in CIDR notation, of which any may contain the client's address.
    #[schemars(schema_with = "source_networks")]
    pub values: Vec<IpNet>,
}

/// What to do with a request: exactly one of its members.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.forward), has(self.redirect), has(self.fixedResponse)].exists_one(present, present)").message("an action has exactly one of forward, redirect and fixedResponse"))]
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
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.targetGroups.exists(group, group.weight > 0)").message("every target group has weight 0, so nothing would be served: give at least one a weight from 1 to 999"))]
pub struct Forward {
    /// From 1 to 5 target groups; each request goes to one of them, chosen by weight.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub target_groups: Vec<WeightedTargetGroup>,
}

/// A target group and its share of the requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WeightedTargetGroup {
    /// Name of a TargetGroup in this namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Its share is its weight over the sum of all weights. From 0 to 999; 0 sends nothing there.
    #[serde(default = "default_weight")]
    #[schemars(range(max = 999))]
    pub weight: u16,
}

/// Where to send the client. `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and `#{query}` stand for the request's own;
/// anything else after a `#` is refused. Each part is written into its own field.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.protocol != '#{protocol}' || self.host != '#{host}' || self.port != '#{port}' || self.path != '/#{path}' || self.query != '#{query}'").message("a redirect to the same address never ends: change at least one of protocol, host, port, path and query"))]
pub struct Redirect {
    /// 301 (permanent) or 302 (temporary).
    #[schemars(extend("enum" = [301, 302]))]
    pub status_code: u16,
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    #[serde(default = "keep_protocol")]
    #[schemars(extend("enum" = ["HTTP", "HTTPS", "#{protocol}"]))]
    pub protocol: String,
    /// A host name, `#{host}`, or one made of both, such as `www.#{host}`; without port, user and wildcards.
    #[serde(default = "keep_host")]
    #[schemars(length(min = 1, max = 128), regex(pattern = REDIRECT_HOST))]
    #[x_kube(validation = Rule::new("self.startsWith('[') || !(self.contains(':') || self.contains('@') || self.contains('*'))").message("host is a host name, '#{host}', or one made of both, such as 'www.#{host}': write the port into port, and leave out users and wildcards"))]
    pub host: String,
    /// A port number or `#{port}`.
    #[serde(default = "keep_port")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self == '#{port}' || (self.matches('^[1-9][0-9]*$') && int(self) <= 65535)").message("port is a number from 1 to 65535 in quotes, or '#{port}' for the request's own"))]
    pub port: String,
    /// An absolute path, without the query; with percent-encoding where it is not ASCII.
    #[serde(default = "keep_path")]
    #[schemars(length(min = 1, max = 128), regex(pattern = REDIRECT_TEXT))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.contains('?')").message("path begins with a slash and ends before the question mark: write what follows that into query"))]
    pub path: String,
    /// The query without its question mark; empty for none.
    #[serde(default = "keep_query")]
    #[schemars(length(max = 128), regex(pattern = REDIRECT_TEXT))]
    #[x_kube(validation = Rule::new("!self.startsWith('?')").message("query is written without its question mark: a=b instead of ?a=b"))]
    pub query: String,
}

/// An answer that needs no target.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FixedResponse {
    /// A status of 2XX, 4XX or 5XX.
    #[schemars(range(min = 200, max = 599))]
    #[x_kube(validation = Rule::new("self < 300 || self >= 400").message("statusCode is 2XX, 4XX or 5XX: to send the client elsewhere, use a redirect"))]
    pub status_code: u16,
    /// Media type of the body.
    #[serde(default)]
    pub content_type: ContentType,
    /// The body, at most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
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

impl HasConditions for LoadBalancerStatus {
    fn conditions(&self) -> &[StatusCondition] {
        &self.conditions
    }
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

/// What RFC 9110 calls a token: names of headers, methods. The backtick by its number, for the sake of the reference page.
const TOKEN: &str = r"^[!#$%&'*+.^_\x60|~0-9A-Za-z-]+$";

/// What a header's value can be: no control characters but tabs, and no space at its ends, where readers remove it.
const HEADER_VALUE: &str = r"^[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?$";

/// What can be before the first `=` of a pair in a query: visible ASCII but for `#`, `&` and `=`.
const QUERY_KEY: &str = r#"^[!"$%'-<>-~]+$"#;

/// What can follow it.
const QUERY_VALUE: &str = r#"^[!"$%'-~]+$"#;

/// A host name with the request's own as a part of it, or an IPv6 address.
const REDIRECT_HOST: &str = r"^(([0-9A-Za-z._-]|#[{]host[}])+|\[[0-9A-Fa-f:.]+\])$";

/// Visible ASCII in which every `#` begins one of the placeholders.
const REDIRECT_TEXT: &str = r#"^([!"$-~]|#[{](protocol|host|port|path|query)[}])*$"#;

fn path_patterns(_: &mut SchemaGenerator) -> Schema {
    let mut schema = patterns(
        r#"^[!"$-~]+$"#,
        "From 1 to 5 paths of at most 128 characters, each of which begins with `/`, `*` or `?`. Without `#`, spaces, and what is not ASCII.",
    );
    // As there may be more than a million values, the API server would let no rule read them to their ends.
    let begins = json!([{
        "rule": "self.startsWith('/') || self.startsWith('*') || self.startsWith('?')",
        "message": "a path begins with / or with a wildcard, * or ?: write /api instead of api",
    }]);
    if let Some(items) = schema.pointer_mut("/properties/values/items").and_then(Value::as_object_mut) {
        items.insert("x-kubernetes-validations".into(), begins);
    }
    schema
}

fn host_patterns(_: &mut SchemaGenerator) -> Schema {
    patterns(
        r"^([0-9A-Za-z.*?_-]+|\[[0-9A-Fa-f:.*?]+\])$",
        "From 1 to 5 host names of at most 128 characters, without ports; an IPv6 address in brackets.",
    )
}

fn methods(_: &mut SchemaGenerator) -> Schema {
    patterns(TOKEN, "From 1 to 5 methods of at most 128 characters.")
}

/// The schema of [`Patterns`] whose values match a regular expression.
fn patterns(pattern: &str, description: &str) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["values"],
        "properties": {
            "values": {
                "description": description,
                "type": "array",
                "minItems": 1,
                "maxItems": 5,
                "items": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": pattern },
            },
        },
    })
}

fn allowed_sources(_: &mut SchemaGenerator) -> Schema {
    networks(100)
}

fn source_networks(_: &mut SchemaGenerator) -> Schema {
    networks(5)
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
