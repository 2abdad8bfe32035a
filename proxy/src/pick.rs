//! Picking a target, and counting what becomes of the request.

use std::sync::Arc;
use std::time::Duration;

use crate::errors::Reason;
use crate::group::{Endpoint, Group};
use crate::retry::{CONNECT_HURRY, CONNECT_TIMEOUT, MAX_ATTEMPTS};
use crate::signs::Doubt;

/// A target that was picked; counted as in flight until this is dropped or finished, and as waiting until its answer comes.
#[derive(Debug)]
pub struct Picked {
    endpoint: Arc<Endpoint>,
    waiting: bool,
    /// The target's signs of life when it was picked.
    answers: u32,
}

/// Why no target could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// No target may be picked now: there is none, or all drain or wait for their first check.
    #[error("no target is in service")]
    NoneInService,
    /// Each was tried before.
    #[error("every target was tried")]
    AllTried,
}

/// What became of a request at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered well.
    Succeeded,
    /// No answer, a bad one, or a 5XX.
    Failed,
    /// The client went away first: nobody's failure.
    Abandoned,
}

impl Outcome {
    /// The outcome of an answer with this status.
    pub fn of_status(status: u16) -> Self {
        if status >= 500 { Self::Failed } else { Self::Succeeded }
    }
}

/// Picks a target of the group for a request or connection that was already tried at some.
#[inline]
pub fn pick(group: &Group, tried: &[Arc<Endpoint>]) -> Result<Picked, NoTarget> {
    if tried.is_empty() {
        group.stats().count_request();
    }
    let found = find(group, tried);
    if found.is_err() && tried.is_empty() {
        group.stats().count_no_target();
    }
    found
}

#[inline]
fn find(group: &Group, tried: &[Arc<Endpoint>]) -> Result<Picked, NoTarget> {
    let was_tried = |endpoint: &Endpoint| tried.iter().any(|tried| Arc::ptr_eq(&tried.cell, &endpoint.cell));
    loop {
        let lineup = group.lineup();
        let is_out = |endpoint: &Endpoint| was_tried(endpoint) || endpoint.cell.draining();
        let trusted = lineup.choose(|endpoint| is_out(endpoint) || endpoint.cell.is_suspect());
        match trusted.or_else(|| lineup.choose(is_out)) {
            // Draining began between the look and the count: choose again.
            Some(endpoint) if !endpoint.cell.admit() => {}
            Some(endpoint) => return Ok(Picked::new(Arc::clone(endpoint))),
            // The lineup changed under our eyes: look at the new one.
            None if !Arc::ptr_eq(&lineup, &group.lineup()) => {}
            None if lineup.endpoints().is_empty() || tried.is_empty() => return Err(NoTarget::NoneInService),
            None => return Err(NoTarget::AllTried),
        }
    }
}

/// How long a connection to `current` is waited for, which is the attempt of this number.
pub(crate) fn connect_timeout(
    group: &Group,
    tried: &[Arc<Endpoint>],
    current: &Endpoint,
    attempt: u32,
) -> Duration {
    let hurry = attempt < MAX_ATTEMPTS && has_other(group, tried, current);
    if hurry { CONNECT_HURRY } else { CONNECT_TIMEOUT }
}

/// Whether another target may be tried after there was no connection to `current`; if so, that is counted. It comes out of
/// the budget only when there is something to be said against each that is left. `now` is counted from the proxy's start.
pub(crate) fn grants_another(
    group: &Group,
    tried: &[Arc<Endpoint>],
    current: &Endpoint,
    now: Duration,
) -> bool {
    if has_other(group, tried, current) {
        group.stats().count_retry();
        return true;
    }
    group.grants_retry(now)
}

/// Whether there is another target for which nothing speaks against it: neither tried, nor draining, nor a suspect.
fn has_other(group: &Group, tried: &[Arc<Endpoint>], current: &Endpoint) -> bool {
    let is = |endpoint: &Endpoint, other: &Endpoint| Arc::ptr_eq(&endpoint.cell, &other.cell);
    group.lineup().endpoints().iter().any(|endpoint| {
        let used = is(endpoint, current) || tried.iter().any(|tried| is(endpoint, tried));
        !used && !endpoint.cell.draining() && !endpoint.cell.is_suspect()
    })
}

impl Picked {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.cell.signs.ask();
        let answers = endpoint.cell.signs.answers();
        Self { endpoint, waiting: true, answers }
    }

    /// The target. Keep a clone to say at the next pick that it was tried.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The head of the answer has come (or the connection, for TCP).
    #[inline]
    pub fn answered(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.endpoint.cell.signs.answer();
        }
    }

    /// There was no connection to the target, for this reason. When none came in time though the target answered others
    /// meanwhile, a packet was lost, or more came at once than it accepts: it does not hang.
    pub fn failed_to_connect(&self, reason: Reason) {
        self.endpoint.stats.count_connect_failure();
        if reason != Reason::ConnectTimeout {
            self.endpoint.suspect(Doubt::Unreachable);
        } else if self.endpoint.cell.signs.answers() == self.answers {
            self.endpoint.suspect(Doubt::Silent);
        }
    }

    /// Waits until the target's drain has reached its limit: then close what is left.
    pub async fn closing(&self) {
        self.endpoint.cell.closing().await;
    }

    /// Records what became of it, with the time to the response head where there was one (or to the connection, for TCP).
    #[inline]
    pub fn finish(self, outcome: Outcome, latency: Option<Duration>) {
        self.endpoint.cell.record(outcome == Outcome::Failed);
        if let Some(latency) = latency {
            self.endpoint.stats.count_latency(latency);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if self.waiting {
            self.endpoint.cell.signs.give_up();
        }
        self.endpoint.cell.leave();
    }
}
