//! What is known of one request while it is under way. When it is over its target, the metrics and the access log are
//! told, once, by whichever carrier it came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::access_log::{AccessLog, Entry};
use crate::errors::Reason;
use crate::group::{Endpoint, Group};
use crate::metrics::Present;
use crate::pick::{Outcome, Picked, connect_timeout, grants_another, pick};
use crate::port::Listening;
use crate::request::RequestView;
use crate::retry::{Body, CONNECT_TIMEOUT, Failure, MAX_ATTEMPTS, may_resend};
use crate::route::Route;
use crate::stream::Connection;

/// Who waits for an answer waits longer than this. As Envoy has it (`premature_reset_min_stream_lifetime_seconds`).
const AT_ONCE: Duration = Duration::from_secs(1);

/// A request under way.
pub(crate) struct Record {
    /// Rules and settings as they were when the request began.
    pub(crate) listening: Arc<Listening>,
    began: Instant,
    /// What the access log wants to know, if it is on.
    pub(crate) described: Option<Box<Described>>,
    /// Priority of the rule that matched.
    rule: Option<u32>,
    /// Most bytes of the request's body; none for any number.
    body_bytes: Option<u64>,
    /// Where it is forwarded to.
    pub(crate) group: Option<Arc<Group>>,
    /// Targets that were tried in vain.
    tried: Vec<Arc<Endpoint>>,
    /// The target it is at.
    pub(crate) picked: Option<Picked>,
    /// Attempts begun.
    attempts: u32,
    /// When the last attempt began.
    attempt_began: Option<Instant>,
    /// From there to the head of its answer.
    latency: Option<Duration>,
    /// Status of the answer, from the target or our own.
    pub(crate) status: Option<u16>,
    /// Why no target answered, or not to the end.
    pub(crate) reason: Option<Reason>,
    /// Bytes of the request's body.
    received_bytes: u64,
    /// Bytes of the answer's body.
    pub(crate) sent_bytes: u64,
    over: bool,
    in_flight: Option<Present>,
}

/// What the access log wants to know of a request's head.
pub(crate) struct Described {
    time: jiff::Timestamp,
    protocol: &'static str,
    method: String,
    host: String,
    path: String,
    user_agent: Option<String>,
}

impl Described {
    /// Of this request; `protocol` is as the log has it.
    pub(crate) fn of(request: &impl RequestView, protocol: &'static str) -> Self {
        let mut path = request.path().to_owned();
        if !request.query().is_empty() {
            path.extend(["?", request.query()]);
        }
        Self {
            time: jiff::Timestamp::now(),
            protocol,
            method: request.method().to_owned(),
            host: request.authority().to_owned(),
            path,
            user_agent: request
                .header("user-agent")
                .next()
                .map(|value| String::from_utf8_lossy(value).into_owned()),
        }
    }
}

impl Record {
    /// A request whose head has just arrived.
    pub(crate) fn begin(listening: Arc<Listening>) -> Self {
        let in_flight = Some(Present::count(&listening.metrics.in_flight));
        Self {
            listening,
            began: Instant::now(),
            described: None,
            rule: None,
            body_bytes: None,
            group: None,
            tried: Vec::new(),
            picked: None,
            attempts: 0,
            attempt_began: None,
            latency: None,
            status: None,
            reason: None,
            received_bytes: 0,
            sent_bytes: 0,
            over: false,
            in_flight,
        }
    }

    /// Notes which way the request goes.
    pub(crate) fn routed(&mut self, route: &Route<'_>) {
        self.rule = route.priority;
        self.body_bytes = route.body_bytes;
    }

    /// Whether a body of this length may be passed on.
    pub(crate) fn takes(&self, length: u64) -> bool {
        self.body_bytes.is_none_or(|most| length <= most)
    }

    /// More of the request's body has come.
    ///
    /// # Errors
    /// It is too much now.
    pub(crate) fn receive(&mut self, bytes: u64) -> Result<(), Reason> {
        self.received_bytes += bytes;
        if self.takes(self.received_bytes) { Ok(()) } else { Err(Reason::BodyTooLarge) }
    }

    /// Picks the first target. False when there is none.
    pub(crate) fn pick_first(&mut self) -> bool {
        let Some(group) = &self.group else { return false };
        group.budget().deposit();
        self.picked = pick(group, &[]).ok();
        self.picked.is_some()
    }

    /// An attempt at the picked target begins.
    pub(crate) fn attempt(&mut self) {
        self.attempts += 1;
        self.reason = None;
        self.attempt_began = Some(Instant::now());
    }

    /// The head of the answer has arrived.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // What follows is no body.
            self.body_bytes = None;
        }
        self.latency = self.attempt_began.map(|began| began.elapsed());
        if let Some(picked) = &mut self.picked {
            picked.answered();
        }
    }

    /// Whether the request may be sent again; if so, that is counted. `now` is counted from the proxy's start.
    pub(crate) fn may_retry(&self, failure: Failure, method: &Method, body: Body, now: Duration) -> bool {
        if self.attempts >= MAX_ATTEMPTS || !may_resend(failure, method, body) {
            return false;
        }
        let (Some(group), Some(picked)) = (&self.group, &self.picked) else { return false };
        match failure {
            Failure::Connect => grants_another(group, &self.tried, picked.endpoint(), now),
            Failure::Exchange { .. } => group.grants_retry(now),
        }
    }

    /// How long a connection to the picked target is waited for.
    pub(crate) fn connect_timeout(&self) -> Duration {
        let (Some(group), Some(picked)) = (&self.group, &self.picked) else { return CONNECT_TIMEOUT };
        connect_timeout(group, &self.tried, picked.endpoint(), self.attempts)
    }

    /// There was no connection to the target, for this reason.
    pub(crate) fn not_connected(&mut self, reason: Reason) {
        if let Some(picked) = &self.picked {
            picked.failed_to_connect(reason);
        }
        self.reason = Some(reason);
    }

    /// After that: goes to another target. It is of no use to try at once where the connection was refused; but where it
    /// timed out everywhere, targets are tried again: packets that were lost may pass by now. Whether there is a target.
    pub(crate) fn try_elsewhere(&mut self) -> bool {
        self.move_on() || self.reason == Some(Reason::ConnectTimeout) && self.start_over()
    }

    fn start_over(&mut self) -> bool {
        self.tried.clear();
        self.move_on() || self.picked.is_some()
    }

    /// Goes to a target that was not tried. False when there is none: then the request stays where it is.
    pub(crate) fn move_on(&mut self) -> bool {
        let (Some(group), Some(current)) = (&self.group, self.picked.take()) else { return false };
        self.tried.push(Arc::clone(current.endpoint()));
        let Ok(other) = pick(group, &self.tried) else {
            self.picked = Some(current);
            return false;
        };
        current.finish(Outcome::Failed, None);
        self.picked = Some(other);
        true
    }

    /// The request is over: its target, the metrics and the log are told, unless that was done. `ended` says why it was
    /// ended from outside, if it was; without that, an answer and a reason, its connection has ended.
    pub(crate) fn finish(&mut self, ended: Option<Reason>, log: &AccessLog, client: SocketAddr) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.settle(ended);
        let duration = self.began.elapsed();
        let metrics = &self.listening.metrics;
        metrics.duration.observe(duration);
        metrics.count_answer(self.status.unwrap_or_default());
        if let Some(reason) = self.reason {
            metrics.count_error(reason);
        }
        self.log(log, client, duration);
        let outcome = outcome(self.status, self.reason);
        if let Some(picked) = self.picked.take() {
            picked.finish(outcome, self.latency);
        }
        self.in_flight = None;
    }

    /// Whether the client has taken back a request that is over, before it could expect an answer.
    pub(crate) fn is_taken_back(&self) -> bool {
        self.reason == Some(Reason::ClientClosed) && self.latency.is_none() && self.began.elapsed() < AT_ONCE
    }

    fn settle(&mut self, ended: Option<Reason>) {
        self.reason = ended.or(self.reason).or_else(|| self.status.is_none().then_some(Reason::ClientClosed));
        if self.status.is_none() {
            self.status = self.reason.map(Reason::status);
        }
    }

    fn log(&mut self, log: &AccessLog, client: SocketAddr, duration: Duration) {
        let Some(described) = self.described.take() else { return };
        let Described { time, protocol, method, host, path, user_agent } = *described;
        let last = self.picked.as_ref().map(Picked::endpoint).or(self.tried.last());
        log.log(Entry {
            time,
            listener: self.listening.metrics.name.clone(),
            protocol,
            client,
            method: Some(method),
            host: Some(host),
            path: Some(path),
            user_agent,
            status: self.status,
            rule: self.rule,
            target_group: self.group.as_ref().map(|group| group.name().into()),
            target: last.map(|endpoint| endpoint.address),
            attempts: self.attempts,
            duration_ms: milliseconds(duration),
            target_ms: self.latency.map(milliseconds),
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            reason: self.reason.map(Reason::as_str),
        });
    }
}

/// Records a request whose head was refused before anything could be known of it.
pub(crate) fn refused(listening: &Listening, connection: &Connection, log: &AccessLog, reason: Reason) {
    listening.metrics.count_error(reason);
    listening.metrics.count_answer(reason.status());
    if !log.is_on() {
        return;
    }
    log.log(Entry {
        time: jiff::Timestamp::now(),
        listener: listening.metrics.name.clone(),
        protocol: "HTTP/1.1",
        client: connection.client,
        method: None,
        host: None,
        path: None,
        user_agent: None,
        status: Some(reason.status()),
        rule: None,
        target_group: None,
        target: None,
        attempts: 0,
        duration_ms: 0.0,
        target_ms: None,
        received_bytes: 0,
        sent_bytes: 0,
        reason: Some(reason.as_str()),
    });
}

fn outcome(status: Option<u16>, reason: Option<Reason>) -> Outcome {
    match reason {
        Some(reason) if reason.blames_target() => Outcome::Failed,
        // A tunnel that fell silent has done its work.
        Some(Reason::IdleTimeout) => Outcome::Succeeded,
        Some(_) => Outcome::Abandoned,
        None => status.map_or(Outcome::Abandoned, Outcome::of_status),
    }
}

/// With three digits behind the point.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_answers_for_what_is_its_fault_only() {
        for (status, reason, expected) in [
            (Some(200), None, Outcome::Succeeded),
            (Some(404), None, Outcome::Succeeded),
            (Some(500), None, Outcome::Failed),
            (Some(504), Some(Reason::TargetTimeout), Outcome::Failed),
            (Some(200), Some(Reason::TargetClosed), Outcome::Failed),
            (Some(200), Some(Reason::ClientClosed), Outcome::Abandoned),
            (Some(502), Some(Reason::DrainDeadline), Outcome::Abandoned),
            (Some(101), Some(Reason::IdleTimeout), Outcome::Succeeded),
            (None, None, Outcome::Abandoned),
        ] {
            assert_eq!(outcome(status, reason), expected, "{status:?} {reason:?}");
        }
    }
}
