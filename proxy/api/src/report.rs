//! What a proxy tells the operator.

use std::time::Duration;

use crate::snapshot::Version;
use crate::trust::Trust;

/// Upper bounds of the latency histogram's buckets; one more bucket follows for everything slower.
pub const LATENCY_BOUNDS: [Duration; 14] = {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [
        ms(1),
        ms(2),
        ms(5),
        ms(10),
        ms(20),
        ms(50),
        ms(100),
        ms(200),
        ms(500),
        ms(1_000),
        ms(2_000),
        ms(5_000),
        ms(10_000),
        ms(30_000),
    ]
};

/// What a proxy says on its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProxy {
    /// First of all.
    Hello(Hello),
    /// After each version.
    Ack(Ack),
    /// Each second.
    Report(Report),
    /// After the hello, and whenever it changed.
    Trust(Trust),
}

/// Who a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hello {
    /// The version that is in force, where there is one.
    pub applied: Option<Version>,
    /// Name and version of the proxy's software.
    pub software: String,
}

/// The answer to a version: it is in force, but for the resources that were rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The version that is now in force.
    pub version: Version,
    /// Resources that were not taken over; what served them before goes on.
    pub rejections: Vec<Rejection>,
}

/// A resource that a proxy could not take over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
    /// Why, for people: what is wrong and, where known, what to do.
    pub reason: String,
}

/// Kinds of resources in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A listener.
    Listener,
    /// A target group.
    TargetGroup,
}

/// What a proxy saw, sampled each second. Sparse: what did not change since the stream's previous report is left out,
/// but a draining target is in every report.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// The version that was in force when this was sampled.
    pub version: Version,
    /// By target.
    pub targets: Vec<TargetReport>,
    /// By target group.
    pub target_groups: Vec<GroupReport>,
}

/// What a proxy saw of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReport {
    /// The target's group.
    pub target_group: String,
    /// The target's id.
    pub id: String,
    /// Requests, streams, tunnels and sessions in flight now.
    pub in_flight: u32,
    /// Requests completed since this proxy knows the target.
    pub completed: u64,
    /// Of these, those without an answer, with a bad one or with a 5XX.
    pub failed: u64,
    /// What its checks say.
    pub health: Health,
    /// Why, in one word as in Elastic Load Balancing; empty when healthy.
    pub reason: String,
    /// Why, in a sentence; empty when healthy.
    pub description: String,
}

/// What checks say of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Health {
    /// Not yet checked.
    #[default]
    Initial,
    /// Passed.
    Healthy,
    /// Failed.
    Unhealthy,
}

/// What a proxy saw of one target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// The group's name.
    pub name: String,
    /// Requests since this proxy knows the group.
    pub requests: u64,
    /// Of these, those refused because there was no target.
    pub no_target: u64,
    /// Requests by time to the response head: one count for each of [`LATENCY_BOUNDS`], and one for the slower ones.
    pub latency: Vec<u64>,
}
