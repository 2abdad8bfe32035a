//! One ReplicaService from second to second.

use std::time::Duration;

use evenkeel_crds::v1alpha1::LastScaling;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;
use tracing::info;

use super::decisions::DecisionView;
use super::inputs::Seen;
use super::write::Writer;
use crate::registry::ValidReplicaService;
use crate::scale::{Blind, Decision, Finding, History, Inputs, Replica, decide};

/// A write that does not come back as what was accepted for so long is not waited for.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(10);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// What is remembered of a ReplicaService in this term.
#[derive(Default)]
pub(super) struct Service {
    history: Option<History>,
    /// The number that was last known to be wanted.
    current: Option<i32>,
    written: Option<Written>,
    retry: Option<Instant>,
    decided: Option<(Basis, Decision)>,
    last_scaling: Option<LastScaling>,
}

/// When it is, and how to write.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) writer: &'a Writer,
    pub(super) now: Instant,
    pub(super) time: Timestamp,
}

/// A number that was written and may not have come back yet.
struct Written {
    replicas: i32,
    before: Option<i32>,
    at: Instant,
}

/// What a decision was based on. Another decision needs another basis: each sample acts once.
#[derive(Clone, PartialEq)]
struct Basis {
    newest: Option<Timestamp>,
    generation: i64,
    blind: Option<Blind>,
    unknown: bool,
}

impl Service {
    pub(super) async fn tick(&mut self, valid: &ValidReplicaService, seen: Seen, moment: Moment<'_>) {
        let Moment { writer, now, .. } = moment;
        if valid.deleting {
            return;
        }
        let Some(current) = self.current(valid, now) else {
            self.write(valid, None, &initial(valid), moment).await;
            return;
        };
        self.notice_manual_set(valid, current, now);
        let draining = seen.draining;
        let decision = self.decide(valid, seen, current, now);
        let failure = if decision.replicas == current {
            None
        } else {
            self.write(valid, Some(current), &decision, moment).await
        };
        writer.show(&valid.key, self.view(decision, failure, draining));
    }

    /// What is wanted now: what was written counts before it comes back.
    fn current(&mut self, valid: &ValidReplicaService, now: Instant) -> Option<i32> {
        if let Some(written) = &self.written {
            if valid.desired == written.before && now.duration_since(written.at) < ACCEPTED_WITHIN {
                return Some(written.replicas);
            }
            self.written = None;
        }
        valid.desired
    }

    /// A number that was not decided here is taken, and the policies go on from there.
    fn notice_manual_set(&mut self, valid: &ValidReplicaService, current: i32, now: Instant) {
        let clamped = current.clamp(valid.min, valid.max);
        if self.current != Some(current) {
            if let Some(before) = self.current {
                info!(replica_service = %valid.key, from = before, to = current, "somebody set the number");
            }
            self.history = Some(History::seeded(clamped, now));
            self.decided = None;
            self.current = Some(current);
        }
    }

    fn decide(&mut self, valid: &ValidReplicaService, seen: Seen, current: i32, now: Instant) -> Decision {
        let Seen { mut replicas, newest, blind, hold, draining } = seen;
        let serving = replicas.len() as i32 - draining;
        // Those that are still missing count as the others of which nothing is known.
        replicas.extend((serving..current).map(|_| Replica::Unknown));
        let unknown = replicas.iter().all(|replica| *replica == Replica::Unknown);
        let basis = Basis { newest, generation: valid.generation, blind: blind.clone(), unknown };
        let history = self.history.get_or_insert_with(|| History::seeded(current, now));
        if matches!(blind, Some(Blind::Paused | Blind::NoPolicies)) {
            // Until policies work again the number that is set is what is called for: the windows begin then.
            history.propose(current, now);
        }
        if let Some((_, decision)) = self.decided.as_ref().filter(|(before, _)| *before == basis) {
            return Decision { replicas: current.clamp(valid.min, valid.max), ..decision.clone() };
        }
        let inputs = Inputs {
            min: valid.min,
            max: valid.max,
            current,
            policies: &valid.policies,
            replicas: &replicas,
            blind,
            hold,
            scale_out_window: valid.scale_out_stabilization,
            scale_in_window: valid.scale_in_stabilization,
            history,
        };
        let decision = decide(&inputs, now);
        if let Some(proposal) = decision.proposal {
            history.propose(proposal, now);
        }
        self.decided = Some((basis, decision.clone()));
        decision
    }

    /// Returns why it failed, if so.
    async fn write(
        &mut self,
        valid: &ValidReplicaService,
        from: Option<i32>,
        decision: &Decision,
        moment: Moment<'_>,
    ) -> Option<Finding> {
        let Moment { writer, now, time } = moment;
        if self.retry.is_some_and(|retry| now < retry) {
            return Some(Finding::no(
                "FailedUpdateScale",
                "writing the number of replicas failed; it is tried again",
            ));
        }
        let to = decision.replicas;
        if let Err(error) = writer.write(valid, from, decision).await {
            self.retry = Some(now + RETRY);
            // What could not be done is decided anew.
            self.decided = None;
            return Some(Finding::no("FailedUpdateScale", error.to_string()));
        }
        self.retry = None;
        self.written = Some(Written { replicas: to, before: valid.desired, at: now });
        self.current = Some(to);
        let history = self.history.get_or_insert_with(|| History::seeded(to, now));
        if let Some(from) = from {
            history.change(to - from, now);
            self.last_scaling = Some(LastScaling {
                time: Time(time),
                from,
                to,
                reason: decision.reason.to_owned(),
                message: decision.message.clone(),
            });
        }
        None
    }

    fn view(&self, decision: Decision, failure: Option<Finding>, draining: i32) -> DecisionView {
        DecisionView {
            desired: decision.replicas,
            reason: decision.reason,
            message: decision.message,
            able_to_scale: failure.unwrap_or(decision.able_to_scale),
            scaling_active: decision.scaling_active,
            scaling_limited: decision.scaling_limited,
            cpu_utilization_percent: decision.cpu_utilization_percent,
            last_scaling: self.last_scaling.clone(),
            draining,
        }
    }
}

/// Nobody said how many: as few as there may be, at once.
fn initial(valid: &ValidReplicaService) -> Decision {
    let fine = Finding::yes("ReadyForNewScale", "the number of replicas can be changed");
    Decision {
        replicas: valid.min,
        reason: "Initialized",
        message: format!("spec.scaling.desired is absent: it starts with min, {}", valid.min),
        proposal: None,
        scaling_active: fine.clone(),
        able_to_scale: fine.clone(),
        scaling_limited: fine,
        cpu_utilization_percent: None,
    }
}

#[cfg(test)]
mod tests;
