//! One stream: versions go out, acknowledgements and reports come in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::delta::updates;
use evenkeel_proxy_api::proto::{self, FromProxy, Update, from_proxy::Message};
use evenkeel_proxy_api::report::{Ack, Report};
use evenkeel_proxy_api::snapshot::Version;
use evenkeel_proxy_api::trust::Trust;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::metrics::Metrics;
use super::publisher::{Published, Publisher};
use crate::auth::{self, Authenticate, PodIdentity};
use crate::object_key::ObjectKey;

/// A proxy that says nothing for so long after connecting is none.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A token is checked again after so long: it expires, and its pod may be gone.
const RECHECK: Duration = Duration::from_secs(300);
/// Rejections of one acknowledgement that are kept.
const REJECTIONS_LIMIT: usize = 1000;
/// Versions that may wait for their acknowledgement. Of a proxy that takes versions and acknowledges none the oldest are
/// forgotten.
const SENT_LIMIT: usize = 1000;
/// Bytes of a rejection's reason that are kept.
const REASON_LIMIT: usize = 1024;

/// One proxy's stream.
pub(super) struct Session {
    pub(super) publisher: Arc<Publisher>,
    pub(super) metrics: Metrics,
    pub(super) authenticator: Arc<dyn Authenticate>,
    pub(super) load_balancer: ObjectKey,
    pub(super) pod: PodIdentity,
    pub(super) token: String,
    pub(super) stop: CancellationToken,
}

/// Versions that were sent and not yet acknowledged, and the events that they answer.
#[derive(Default)]
struct Sent(Mutex<VecDeque<(Version, Instant)>>);

type Outbound = mpsc::Sender<Result<Update, Status>>;

impl Session {
    /// Serves the proxy until one side ends.
    pub(super) async fn run(self, mut inbound: Streaming<FromProxy>, out: Outbound) {
        let status = match self.hello(&mut inbound).await {
            Ok(()) => {
                let _open = Open::new(&self);
                self.serve(inbound, &out).await
            }
            Err(status) => status,
        };
        info!(
            load_balancer = %self.load_balancer, proxy = self.pod.name,
            reason = status.message(), "a proxy's stream ended"
        );
        // A proxy that is gone hears nothing.
        let _ = out.try_send(Err(status));
    }

    async fn serve(&self, inbound: Streaming<FromProxy>, out: &Outbound) -> Status {
        let sent = Sent::default();
        tokio::select! {
            status = self.send(out, &sent) => status,
            status = self.receive(inbound, &sent) => status,
            status = self.recheck() => status,
            () = self.stop.cancelled() => Status::unavailable("this operator does not lead any more"),
        }
    }

    async fn hello(&self, inbound: &mut Streaming<FromProxy>) -> Result<(), Status> {
        let first = timeout(HELLO_TIMEOUT, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(FromProxy { message: Some(Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        let proto::Hello { applied, software } = hello;
        let epoch = applied.as_ref().map_or(0, |version| version.epoch);
        let software: String = software.chars().take(100).collect();
        info!(load_balancer = %self.load_balancer, proxy = self.pod.name, software, epoch, "a proxy connected");
        if epoch > self.publisher.epoch() {
            warn!(proxy = self.pod.name, epoch, "a proxy knows of a later leader: this one is about to end");
            return Err(Status::unavailable("there is a later leader"));
        }
        Ok(())
    }

    /// Everything first, then changes. What was published while the proxy was slow is skipped.
    async fn send(&self, out: &Outbound, sent: &Sent) -> Status {
        let mut published = self.publisher.subscribe(&self.load_balancer);
        let mut before: Option<Arc<Published>> = None;
        // What is there already counts as new.
        published.mark_changed();
        loop {
            let Some(next) = next(&mut published).await else {
                return Status::unavailable("the load balancer is gone");
            };
            let updates = match &before {
                Some(before) => next.updates_since(before),
                None => updates(None, &next.snapshot),
            };
            // What a proxy gets first answers its connecting, not an event of long ago.
            let event = if before.is_some() { next.event } else { Instant::now() };
            sent.note(next.snapshot.version, event);
            for update in updates {
                if out.send(Ok(update)).await.is_err() {
                    return Status::cancelled("the proxy went away");
                }
            }
            self.metrics.pushes.inc();
            before = Some(next);
        }
    }

    async fn receive(&self, mut inbound: Streaming<FromProxy>, sent: &Sent) -> Status {
        let published = self.publisher.subscribe(&self.load_balancer);
        loop {
            match inbound.message().await {
                Ok(Some(FromProxy { message: Some(message) })) => self.take(message, sent, &published),
                Ok(Some(FromProxy { message: None })) => self.nonsense("a message without content"),
                Ok(None) => return Status::ok("the proxy closed the stream"),
                Err(status) => return status,
            }
        }
    }

    fn take(&self, message: Message, sent: &Sent, published: &watch::Receiver<Option<Arc<Published>>>) {
        match message {
            Message::Hello(_) => self.nonsense("a second hello"),
            Message::Ack(ack) => match Ack::try_from(ack) {
                Ok(ack) => self.acknowledge(ack, sent),
                Err(error) => self.nonsense(&error.to_string()),
            },
            Message::Trust(trust) => match Trust::try_from(trust) {
                Ok(trust) => self.publisher.state().trusts_now(&self.load_balancer, &self.pod.uid, trust),
                Err(error) => self.nonsense(&error.to_string()),
            },
            Message::Report(report) => match Report::try_from(report) {
                Ok(report) => self.report(report, published.borrow().as_deref()),
                Err(error) => self.nonsense(&error.to_string()),
            },
        }
    }

    fn acknowledge(&self, mut ack: Ack, sent: &Sent) {
        let Some(event) = sent.acknowledged(ack.version) else {
            return self.nonsense("an acknowledgement of a version that was not sent");
        };
        self.metrics.acks.inc();
        self.metrics.acknowledged(event.elapsed());
        ack.rejections.truncate(REJECTIONS_LIMIT);
        for rejection in &mut ack.rejections {
            truncate(&mut rejection.name, REASON_LIMIT);
            truncate(&mut rejection.reason, REASON_LIMIT);
        }
        for rejection in self.publisher.state().acknowledge(&self.load_balancer, &self.pod.uid, ack) {
            self.metrics.rejections.inc();
            warn!(
                load_balancer = %self.load_balancer, proxy = self.pod.name, kind = ?rejection.kind,
                name = rejection.name, reason = rejection.reason,
                "a proxy could not take over a resource; what it had before goes on serving"
            );
        }
    }

    /// Targets that are not published are left out: whatever a proxy says, little is remembered of it.
    fn report(&self, mut report: Report, published: Option<&Published>) {
        let Some(published) = published else { return };
        if report.version > published.snapshot.version {
            return self.nonsense("a report of a version that was not sent");
        }
        report.targets.retain(|target| published.has(&target.target_group, &target.id));
        for target in &mut report.targets {
            truncate(&mut target.reason, REASON_LIMIT);
            truncate(&mut target.description, REASON_LIMIT);
        }
        let (now, time) = (Instant::now(), Timestamp::now());
        let (reports, is_current) = (self.publisher.reports(), report.version == published.snapshot.version);
        reports.take(&self.load_balancer, &self.pod.uid, report, (now, time));
        if is_current {
            let known = |group: &str, id: &str| published.has(group, id);
            reports.retain_targets(&self.load_balancer, &self.pod.uid, known);
        }
    }

    fn nonsense(&self, what: &str) {
        self.metrics.nonsense.inc();
        debug!(load_balancer = %self.load_balancer, proxy = self.pod.name, what, "left out what a proxy sent");
    }

    /// Returns once the token is not valid any more. While nobody can say, it is.
    async fn recheck(&self) -> Status {
        let mut ticks = interval_at(Instant::now() + RECHECK, RECHECK);
        loop {
            ticks.tick().await;
            match self.authenticator.authenticate(&self.token).await {
                Ok(pod) if pod == self.pod => {}
                Ok(_) => return Status::unauthenticated("the token is another pod's now"),
                Err(error @ auth::Error::Unavailable(_)) => {
                    warn!(proxy = self.pod.name, %error, "a token could not be checked again; its stream goes on");
                }
                Err(error) => return error.into(),
            }
        }
    }
}

/// The next value that is published; none when the load balancer is gone.
async fn next(published: &mut watch::Receiver<Option<Arc<Published>>>) -> Option<Arc<Published>> {
    loop {
        published.changed().await.ok()?;
        let current = published.borrow_and_update().clone();
        if current.is_some() {
            return current;
        }
    }
}

impl Sent {
    fn note(&self, version: Version, event: Instant) {
        let mut sent = self.0.lock();
        if sent.len() >= SENT_LIMIT {
            sent.pop_front();
        }
        sent.push_back((version, event));
    }

    /// The event that a version answers, if that version was sent; those before it are answered with it.
    fn acknowledged(&self, version: Version) -> Option<Instant> {
        let mut sent = self.0.lock();
        let at = sent.iter().position(|(candidate, _)| *candidate == version)?;
        sent.drain(..=at).next_back().map(|(_, event)| event)
    }
}

/// Counts a proxy as connected.
struct Open<'a>(&'a Session);

impl<'a> Open<'a> {
    fn new(session: &'a Session) -> Self {
        session.publisher.state().connect(&session.load_balancer, &session.pod.uid, &session.pod.name);
        session.metrics.connected.inc();
        Self(session)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let session = self.0;
        session.publisher.state().disconnect(&session.load_balancer, &session.pod.uid);
        session.metrics.connected.dec();
    }
}

fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests;
