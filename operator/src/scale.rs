//! How many replicas there should be: a ladder whose every rung may change the number and says why.
//!
//! ```text
//! a proposal per policy ─► combine ─► stabilise ─► hold ─► step limits ─► min and max
//! (demand ÷ what one replica     any out,   windows   no scale-in    100 % or 4      ScalingLimited
//!  should carry, missing ones    all in               while it is    pods per 15 s
//!  filled in, tolerance)                              not safe
//! ```
//!
//! Everything here is pure: the time and what was decided before are parameters.

mod combine;
mod demand;
mod history;
mod limits;
mod stabilise;

use std::time::Duration;

use tokio::time::Instant;

pub use history::History;

use crate::registry::ValidPolicy;

/// What a decision rests upon.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Never fewer.
    pub min: i32,
    /// Never more.
    pub max: i32,
    /// How many there should be by now, within `min` and `max` or not.
    pub current: i32,
    /// What calls for more or fewer.
    pub policies: &'a [ValidPolicy],
    /// The replicas that serve, begin to serve or drain.
    pub replicas: &'a [Replica],
    /// Why there are no proposals now, if so.
    pub blind: Option<Blind>,
    /// Why it would not be safe to scale in now, if so.
    pub hold: Option<Finding>,
    /// How long scaling out must have been called for.
    pub scale_out_window: Duration,
    /// How long scaling in must have been called for.
    pub scale_in_window: Duration,
    /// What was proposed and done before.
    pub history: &'a History,
}

/// What is known of one replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replica {
    /// What it used of its CPU request, 1.0 for all of it, in a window that began after it was ready and warm.
    Measured(f64),
    /// Nothing that counts: it starts, is not ready, or has no metrics.
    Unknown,
}

/// Why there can be no proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blind {
    /// The policies are paused.
    Paused,
    /// There are no policies.
    NoPolicies,
    /// Containers without a CPU request, by name.
    MissingCpuRequest(Vec<String>),
    /// The metrics could not be had, and why.
    NoMetrics(String),
}

/// The state of one thing that is shown as a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the condition holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Finding {
    /// A condition that holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    /// A condition that does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// How many there should be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How many.
    pub replicas: i32,
    /// Why, in one word: the last rung that changed the number.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// What the policies together call for, before it is held back: what [`History`] remembers.
    pub proposal: Option<i32>,
    /// Whether the policies work.
    pub scaling_active: Finding,
    /// Whether something holds the number back for now.
    pub able_to_scale: Finding,
    /// Whether a limit changed the number.
    pub scaling_limited: Finding,
    /// Mean over the measured replicas, in percent of their requests.
    pub cpu_utilization_percent: Option<i32>,
}

/// A number on its way up the ladder.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    replicas: i32,
    reason: &'static str,
    message: String,
}

impl Step {
    fn new(replicas: i32, reason: &'static str, message: impl Into<String>) -> Self {
        Self { replicas, reason, message: message.into() }
    }
}

/// Decides how many replicas there should be at `now`.
pub fn decide(inputs: &Inputs<'_>, now: Instant) -> Decision {
    let (step, scaling_active) = propose(inputs);
    let proposal = scaling_active.holds.then_some(step.replicas);
    let (step, stabilised) = stabilise::stabilise(inputs, step, now);
    let (step, held) = hold(inputs, step);
    let (step, stepped) = limits::step(inputs, step, now);
    let (step, clamped) = limits::clamp(inputs, step);
    Decision {
        replicas: step.replicas,
        reason: step.reason,
        message: step.message,
        proposal,
        scaling_active,
        able_to_scale: held
            .or(stabilised)
            .unwrap_or_else(|| Finding::yes("ReadyForNewScale", "the number of replicas can be changed")),
        scaling_limited: clamped.or(stepped).unwrap_or_else(|| {
            Finding::no("DesiredWithinRange", "what is called for is between min and max")
        }),
        cpu_utilization_percent: demand::mean_percent(inputs.replicas),
    }
}

/// What the policies call for, and whether they work.
fn propose(inputs: &Inputs<'_>) -> (Step, Finding) {
    let Some(blind) = blind(inputs) else {
        let proposals: Vec<Step> = inputs
            .policies
            .iter()
            .map(|policy| demand::propose(policy, inputs.replicas, inputs.current))
            .collect();
        let step = combine::combine(proposals, inputs.current);
        return (step, Finding::yes("ValidMetricFound", "the policies have the metrics that they need"));
    };
    let stays = Step::new(inputs.current, blind.reason, blind.message.clone());
    (stays, blind)
}

fn blind(inputs: &Inputs<'_>) -> Option<Finding> {
    Some(match inputs.blind.as_ref() {
        Some(Blind::Paused) => {
            Finding::no("ScalingPaused", "spec.scaling.paused is true: only desired counts")
        }
        Some(Blind::NoPolicies) => {
            Finding::no("NoPolicies", "spec.scaling.policies is empty: only desired counts")
        }
        Some(Blind::MissingCpuRequest(containers)) => Finding::no(
            "MissingCPURequest",
            format!(
                "set resources.requests.cpu of container {}: its utilisation is a share of that",
                containers.join(", ")
            ),
        ),
        Some(Blind::NoMetrics(why)) => Finding::no("FailedGetResourceMetric", why.clone()),
        None if !inputs.replicas.iter().any(|replica| matches!(replica, Replica::Measured(_))) => {
            Finding::no(
                "FailedGetResourceMetric",
                "no replica has metrics of a time when it was ready and warm; new ones have some within a minute",
            )
        }
        None => return None,
    })
}

/// Nothing scales in while it is not safe.
fn hold(inputs: &Inputs<'_>, step: Step) -> (Step, Option<Finding>) {
    match &inputs.hold {
        Some(finding) if step.replicas < inputs.current => {
            (Step::new(inputs.current, finding.reason, finding.message.clone()), Some(finding.clone()))
        }
        _ => (step, None),
    }
}

#[cfg(test)]
mod tests;
