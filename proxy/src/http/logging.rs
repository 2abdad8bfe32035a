//! The request is over: its target, the metrics and the access log are told, once.

use std::time::Duration;

use super::context::{Context, Described};
use crate::access_log::{AccessLog, Entry};
use crate::errors::Reason;
use crate::listeners::Listening;
use crate::pick::{Outcome, Picked};
use crate::stream::Connection;

/// Records the request, unless that was done.
pub(super) fn record(ctx: &mut Context) {
    if std::mem::replace(&mut ctx.recorded, true) {
        return;
    }
    settle_reason(ctx);
    let duration = ctx.began.elapsed();
    let metrics = &ctx.listening.metrics;
    metrics.duration.observe(duration);
    metrics.count_answer(ctx.status.unwrap_or_default());
    if let Some(reason) = ctx.reason {
        metrics.count_error(reason);
    }
    log(ctx, duration);
    let outcome = outcome(ctx.status, ctx.reason);
    if let Some(picked) = ctx.picked.take() {
        picked.finish(outcome, ctx.latency);
    }
}

/// Records a request whose head was refused before anything could be known of it.
pub(super) fn record_refused(listening: &Listening, connection: &Connection, access_log: &AccessLog) {
    let reason = Reason::BadRequest;
    listening.metrics.count_error(reason);
    listening.metrics.count_answer(reason.status());
    if !access_log.is_on() {
        return;
    }
    access_log.log(Entry {
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

/// Without an answer and without a word from Pingora the future of the request was dropped: by its flight, or with its
/// connection.
fn settle_reason(ctx: &mut Context) {
    let ended = ctx.scope.controls.ended();
    ctx.reason = ended.or(ctx.reason).or_else(|| ctx.status.is_none().then_some(Reason::ClientClosed));
    if ctx.status.is_none() {
        ctx.status = ctx.reason.map(Reason::status);
    }
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

fn log(ctx: &mut Context, duration: Duration) {
    let Some(described) = ctx.described.take() else { return };
    let Described { time, protocol, method, host, path, user_agent } = *described;
    let last = ctx.picked.as_ref().map(Picked::endpoint).or(ctx.tried.last());
    ctx.shared.access_log.log(Entry {
        time,
        listener: ctx.listening.metrics.name.clone(),
        protocol,
        client: ctx.scope.connection.client,
        method: Some(method),
        host: Some(host),
        path: Some(path),
        user_agent,
        status: ctx.status,
        rule: ctx.rule,
        target_group: ctx.group.as_ref().map(|group| group.name().into()),
        target: last.map(|endpoint| endpoint.address),
        attempts: ctx.attempts,
        duration_ms: milliseconds(duration),
        target_ms: ctx.latency.map(milliseconds),
        received_bytes: ctx.received_bytes,
        sent_bytes: ctx.sent_bytes,
        reason: ctx.reason.map(Reason::as_str),
    });
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
