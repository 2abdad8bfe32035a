//! What the proxies of one load balancer must know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod limits;

pub use limits::{Limits, RuleLimits};

/// Orders snapshots: by epoch, which rises with each change of leader, then by counter.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// The leader's term.
    pub epoch: u64,
    /// Rises with each change within a term.
    pub counter: u64,
}

/// Everything the proxies of a load balancer must know, at one version.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// When it was made, in relation to others. A file need not say it.
    #[serde(default)]
    pub version: Version,
    /// Listeners by name.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// Target groups by name.
    #[serde(default)]
    pub target_groups: BTreeMap<String, TargetGroup>,
}

/// A port that is listened on and what happens to what arrives there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Port on all addresses.
    pub port: u16,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Who may connect; empty for everyone.
    #[serde(default)]
    pub allowed_sources: Vec<IpNet>,
    /// A client connection without a byte for so long is closed.
    #[serde(default = "default_idle_timeout", with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// What it takes at most.
    #[serde(default)]
    pub limits: Limits,
    /// Ordered by priority, lowest first.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What to do when no rule matches.
    pub default_action: Action,
}

/// What is spoken on a listener's port.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum ListenerProtocol {
    /// HTTP/1.1 and h2c.
    #[default]
    Http,
    /// Bytes.
    Tcp,
}

/// Conditions, all of which must hold, and the action taken then.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// From 1 to 50000, unique in the listener.
    pub priority: u32,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What to do then.
    pub action: Action,
    /// What such requests may have at most.
    #[serde(default)]
    pub limits: RuleLimits,
}

/// One condition on a request. Within one, any value suffices. In patterns `*` stands for any characters, `?` for one,
/// and a backslash takes the next character literally.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Condition {
    /// Case-sensitive patterns of the path without the query.
    Path { values: Vec<String> },
    /// Case-insensitive patterns of the host without the port.
    Host { values: Vec<String> },
    /// Case-insensitive patterns of a header's value.
    Header { name: String, values: Vec<String> },
    /// Methods, exactly.
    Method { values: Vec<String> },
    /// Case-insensitive patterns of a pair in the query string.
    Query { pairs: Vec<QueryPair> },
    /// Networks of the connection's other end.
    SourceIp { values: Vec<IpNet> },
}

/// A pair of a query string.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryPair {
    /// The key; any key when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value.
    pub value: String,
}

/// What to do with a request or connection.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Pass it to a target of one of these groups, chosen by weight.
    Forward { target_groups: Vec<WeightedTargetGroup> },
    /// Send the client elsewhere.
    Redirect(Redirect),
    /// Answer it here.
    FixedResponse(FixedResponse),
}

/// A target group and its share.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedTargetGroup {
    /// Name of the group.
    pub name: String,
    /// From 0 to 999.
    #[serde(default = "one")]
    pub weight: u16,
}

/// Where to send the client. `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and `#{query}` stand for the request's own.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// 301 or 302.
    pub status_code: u16,
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    pub protocol: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: String,
    /// Absolute path.
    pub path: String,
    /// Query without its question mark.
    pub query: String,
}

/// An answer that needs no target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FixedResponse {
    /// 2XX, 4XX or 5XX.
    pub status_code: u16,
    /// Media type.
    pub content_type: String,
    /// Body.
    #[serde(default)]
    pub message_body: String,
}

/// What answers requests.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetGroup {
    /// What the targets speak.
    #[serde(default)]
    pub protocol: TargetProtocol,
    /// How one is chosen.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How their health is checked.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// The targets, ordered by id.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// What targets speak.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// Bytes.
    Tcp,
}

/// How a target is chosen among the healthy ones.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight in relation to its weight.
    LeastRequest,
}

/// How health is checked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// How a target is asked.
    pub protocol: TargetProtocol,
    /// Path of the request, for HTTP.
    pub path: String,
    /// Port; when absent the target's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From one check of a target to the next.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// No answer for so long is a failure.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Successive passes that make an unhealthy target healthy. A new one needs one.
    pub healthy_threshold: u16,
    /// Successive failures that make a healthy target unhealthy.
    pub unhealthy_threshold: u16,
    /// Statuses that pass, for HTTP.
    pub matcher: Vec<StatusRange>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: TargetProtocol::Http,
            path: "/".into(),
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            matcher: vec![StatusRange { from: 200, to: 399 }],
        }
    }
}

/// Statuses from one to another, both included.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

impl StatusRange {
    /// Whether a status is among these.
    pub fn contains(&self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

/// Something that answers requests.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Identity across changes of address, readiness and weight: the pod's UID where there is a pod, else `address:port`.
    pub id: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The zone it is in, empty when unknown.
    #[serde(default)]
    pub zone: String,
    /// The node it is on, empty when unknown.
    #[serde(default)]
    pub node: String,
    /// From 1 to 100.
    #[serde(default = "one")]
    pub weight: u16,
    /// Present while it drains: nothing new is sent there, and what is left so long after the proxy first heard of it is
    /// closed.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
}

impl Target {
    /// Where it listens.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

fn default_idle_timeout() -> Duration {
    Duration::from_secs(60)
}

fn one() -> u16 {
    1
}
