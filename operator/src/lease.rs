//! Who leads: at most one operator holds the Lease, and only the holder writes to the cluster and serves proxies.
//!
//! ```text
//! candidate ─(free, or not renewed for its duration)─► leader ─(not renewed in time, or taken away)─► candidate
//!                                                         └────(asked to stop: gives it back)──────► end
//! ```
//!
//! All waiting is by the monotonic clock of this process; the times in the Lease are for people. A leader stops before
//! anyone else may start: its deadline counts from before its last successful renewal and is shorter than the
//! duration for which others wait after they saw that renewal.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Name of the Lease.
pub const NAME: &str = "evenkeel-operator";

/// How the Lease is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For so long after a renewal was seen, no candidate takes the Lease.
    pub duration: Duration,
    /// For so long after it began its last successful renewal, the leader acts as leader.
    pub deadline: Duration,
    /// From one renewal to the next.
    pub renew: Duration,
    /// From one look of a candidate to the next.
    pub poll: Duration,
}

impl Default for Timing {
    /// After a crash a new leader is there in less than 8 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(6),
            deadline: Duration::from_secs(5),
            renew: Duration::from_secs(2),
            poll: Duration::from_secs(1),
        }
    }
}

/// From a renewal that failed to the next.
const RETRY: Duration = Duration::from_millis(500);

/// A candidate for the Lease.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    timing: Timing,
    seen: watch::Sender<bool>,
}

/// The Lease while it is held.
struct Held {
    lease: Lease,
    /// Until then this process is the leader, whatever happens.
    until: Instant,
}

/// What a candidate saw last, and since when.
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

/// Why a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Lost,
    Stopped,
}

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

impl Candidate {
    /// A candidate under a name that nobody else uses.
    pub fn new(api: Api<Lease>, identity: String, timing: Timing) -> Self {
        Self { api, identity, timing, seen: watch::Sender::new(false) }
    }

    /// Holds true as soon as the Lease was read once: from then on this process could take over.
    pub fn seen(&self) -> watch::Receiver<bool> {
        self.seen.subscribe()
    }

    /// Leads whenever it can, until `shutdown`. `term` is called with the epoch of each term, which rises from term to
    /// term, and with a token; when that is cancelled it must stop writing and return at once. If it returns before,
    /// the Lease is given back and another term begins.
    pub async fn run<F>(&self, term: impl Fn(u64, CancellationToken) -> F, shutdown: CancellationToken)
    where
        F: Future<Output = ()>,
    {
        while !shutdown.is_cancelled() {
            let mut held = tokio::select! {
                held = self.acquire() => held,
                () = shutdown.cancelled() => return,
            };
            let epoch = epoch(&held.lease);
            info!(epoch, identity = self.identity, "leading");
            let end = self.lead(&mut held, term(epoch, shutdown.child_token()), &shutdown).await;
            info!(epoch, ?end, "no longer leading");
            if end == End::Stopped {
                self.release(held.lease).await;
            }
        }
    }

    /// Runs `work`, of which `stop` is told by the token it was made with.
    async fn lead(
        &self,
        held: &mut Held,
        work: impl Future<Output = ()>,
        shutdown: &CancellationToken,
    ) -> End {
        let mut work = std::pin::pin!(work);
        let end = tokio::select! {
            () = self.keep(held) => return End::Lost,
            () = &mut work => return End::Stopped,
            () = shutdown.cancelled() => End::Stopped,
        };
        // The Lease is still valid until `held.until`: what is being written may be completed.
        if timeout_at(held.until, work).await.is_err() {
            warn!("work was still going on when the Lease ran out; it is cut off");
        }
        end
    }

    /// Returns once the Lease is held.
    async fn acquire(&self) -> Held {
        let mut observed = None;
        loop {
            let started = Instant::now();
            match self.try_acquire(&mut observed).await {
                Ok(Some(lease)) => return Held { lease, until: started + self.timing.deadline },
                Ok(None) => {}
                Err(Error::Api(kube::Error::Api(status)))
                    if status.is_conflict() || status.is_already_exists() =>
                {
                    debug!("another candidate was faster");
                }
                Err(error) => warn!(%error, "the Lease cannot be read or written; trying again"),
            }
            sleep(self.timing.poll).await;
        }
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> Result<Option<Lease>, Error> {
        let current = timeout(self.timing.renew, self.api.get_opt(NAME)).await??;
        self.seen.send_replace(true);
        let Some(current) = current else {
            let lease =
                self.claimed(ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() }, first_epoch());
            return Ok(Some(
                timeout(self.timing.renew, self.api.create(&PostParams::default(), &lease)).await??,
            ));
        };
        let spec = current.spec.unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if observed.as_ref().is_none_or(|observed| observed.spec != spec) {
            *observed = Some(Observed { spec, since: Instant::now() });
        }
        if !observed.as_ref().is_some_and(|observed| self.may_take(observed, Instant::now())) {
            return Ok(None);
        }
        let lease = self.claimed(current.metadata, transitions.saturating_add(1));
        Ok(Some(timeout(self.timing.renew, self.replace(&lease)).await??))
    }

    fn may_take(&self, observed: &Observed, now: Instant) -> bool {
        let holder = observed.spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = observed.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(self.timing.duration, Duration::from_secs);
        // Its own name stands there when the container was restarted: the process that held it is gone.
        holder.is_empty() || holder == self.identity || now.duration_since(observed.since) >= duration
    }

    /// Renews the Lease; returns when it is lost.
    async fn keep(&self, held: &mut Held) {
        let mut pause = self.timing.renew;
        loop {
            sleep_until((Instant::now() + pause).min(held.until)).await;
            pause = self.timing.renew;
            let started = Instant::now();
            if started >= held.until {
                warn!("the Lease could not be renewed in time");
                return;
            }
            match self.renew(held).await {
                Ok(lease) => *held = Held { lease, until: started + self.timing.deadline },
                // Somebody annotated it, or our last renewal arrived and its answer did not.
                Err(error) if is_conflict(&error) && self.adopt(held).await => pause = Duration::ZERO,
                Err(Error::Api(kube::Error::Api(status)))
                    if status.is_conflict() || status.is_not_found() =>
                {
                    warn!(status = status.message, "the Lease was taken away");
                    return;
                }
                Err(error) => {
                    pause = pause.min(RETRY);
                    warn!(%error, "the Lease was not renewed; trying again");
                }
            }
        }
    }

    /// Takes over how the Lease is now, if it still is this term's. Nothing is renewed by that.
    async fn adopt(&self, held: &mut Held) -> bool {
        let current = timeout_at(held.until, self.api.get(NAME)).await;
        let Ok(Ok(current)) = current else { return false };
        let term = |lease: &Lease| {
            lease.spec.as_ref().map(|spec| (spec.holder_identity.clone(), spec.lease_transitions))
        };
        let ours = term(&current) == term(&held.lease);
        if ours {
            held.lease.metadata = ObjectMeta { managed_fields: None, ..current.metadata };
        }
        ours
    }

    async fn renew(&self, held: &Held) -> Result<Lease, Error> {
        let mut lease = held.lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        Ok(timeout_at(held.until, timeout(self.timing.renew, self.replace(&lease))).await???)
    }

    /// Gives the Lease back, so that another one takes it at its next look.
    async fn release(&self, mut lease: Lease) {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match timeout(self.timing.renew, self.replace(&lease)).await {
            Ok(Ok(_)) => info!("gave the Lease back"),
            Ok(Err(error)) => warn!(%error, "could not give the Lease back; it runs out by itself"),
            Err(_) => warn!("could not give the Lease back in time; it runs out by itself"),
        }
    }

    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        self.api.replace(NAME, &PostParams::default(), lease).await
    }

    fn claimed(&self, metadata: ObjectMeta, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Lease { metadata: ObjectMeta { managed_fields: None, ..metadata }, spec: Some(spec) }
    }
}

fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(kube::Error::Api(status)) if status.is_conflict())
}

/// The epoch of the term in which this Lease is held.
fn epoch(lease: &Lease) -> u64 {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    transitions.and_then(|transitions| u64::try_from(transitions).ok()).unwrap_or(0)
}

/// Transitions of a Lease that did not exist. Proxies refuse epochs lower than they have seen, and somebody may have
/// deleted the Lease: minutes since 1970 are ahead of any count that began earlier and rose at most once a minute.
fn first_epoch() -> i32 {
    i32::try_from(Timestamp::now().as_second() / 60).unwrap_or(i32::MAX / 2)
}

#[cfg(test)]
mod tests;
