//! The stream to the operator: everything that this proxy serves comes from there, and what it sees goes there.
//!
//! ```text
//! dial ─► Hello, Trust ─► Update… ─► Assembler ─► Applier ─► Ack
//!                           every second, and when a drain begins or ends: Sampler ─► Report
//!                           when the CA file changed ─► Trust
//! ```
//!
//! When the stream ends, another is begun, and the last good snapshot goes on being served however long that takes.

pub mod backoff;
pub mod dial;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::delta::{Assembler, DeltaError, MAX_CHUNK};
use evenkeel_proxy_api::proto;
use evenkeel_proxy_api::proto::push_client::PushClient;
use evenkeel_proxy_api::report::{FromProxy, Hello};
use evenkeel_proxy_api::trust::Trust;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataValue, errors::InvalidMetadataValue};
use tonic::{Request, Streaming};

use crate::apply::{Applier, Reconcile};
use crate::load::Sampler;
use crate::metrics::Metrics;
use backoff::Backoff;
use dial::{Dial, DialError};

/// From one report to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often what is in flight at targets that drain is looked at, while there is any: a replica is removed that much later.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);
/// How often the CA file is read: Kubernetes renews it, and the operator waits for it to tell.
const TRUST_INTERVAL: Duration = Duration::from_secs(2);
/// The operator's first answer takes no longer than this, or something is wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// So many messages may wait to be sent. A report that finds no room is not made: the next has what it would have had.
const OUTBOX: usize = 8;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Dial(#[from] DialError),
    #[error("the token has characters that a token cannot have")]
    Token(#[from] InvalidMetadataValue),
    #[error("the operator did not answer within 5 s")]
    NoAnswer,
    #[error("the operator reads nothing")]
    NotRead,
    #[error("the operator said {}: {}", .0.code(), .0.message())]
    Status(#[from] tonic::Status),
    #[error("the operator sent nonsense: {0}")]
    Delta(#[from] DeltaError),
    #[error("the operator closed the stream")]
    Closed,
}

/// Keeps a stream to the operator.
#[derive(Debug)]
pub struct Control<D, L> {
    dial: D,
    applier: Arc<Applier<L>>,
    metrics: Arc<Metrics>,
    assembler: Assembler,
    /// Whether the stream has brought a whole version.
    told: bool,
    /// What the operator was told on this stream.
    trust: Option<Trust>,
}

impl<D: Dial, L: Reconcile> Control<D, L> {
    /// A stream that is dialled this way and whose snapshots are applied there.
    pub fn new(dial: D, applier: Arc<Applier<L>>, metrics: Arc<Metrics>) -> Self {
        Self { dial, applier, metrics, assembler: Assembler::default(), told: false, trust: None }
    }

    /// Keeps a stream open. Ends never.
    pub async fn run(mut self, rng: fastrand::Rng) {
        let mut backoff = Backoff::new(rng);
        let mut said = String::new();
        loop {
            self.told = false;
            let reason = self.stream().await.to_string();
            self.metrics.control_connected.set(0);
            if self.told {
                backoff.reset();
                said.clear();
            }
            // Once for each reason, not with every attempt: an operator may be away for long.
            if reason != said {
                tracing::warn!(
                    reason,
                    "no stream to the operator, trying again: what is in force goes on, changes wait"
                );
                said = reason;
            }
            sleep(backoff.wait()).await;
        }
    }

    async fn stream(&mut self) -> Ended {
        match self.open().await {
            Ok((updates, outbox)) => {
                tracing::info!("stream to the operator is open");
                self.metrics.control_connected.set(1);
                self.serve(updates, outbox).await.err().unwrap_or(Ended::Closed)
            }
            Err(ended) => ended,
        }
    }

    async fn open(&mut self) -> Result<(Streaming<proto::Update>, mpsc::Sender<proto::FromProxy>), Ended> {
        self.assembler.begin_stream();
        let channel = self.dial.channel().await?;
        let bearer: AsciiMetadataValue = format!("bearer {}", self.dial.token().await?).parse()?;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        // The channel is empty and its other end is here.
        let _ = outbox.try_send(self.hello().into());
        self.trust = None;
        self.tell_trust(&outbox).await;
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", bearer);
        let mut client = PushClient::new(channel).max_decoding_message_size(MAX_CHUNK);
        let answer =
            timeout(ANSWER_TIMEOUT, client.connect(request)).await.map_err(|_| Ended::NoAnswer)??;
        Ok((answer.into_inner(), outbox))
    }

    fn hello(&self) -> FromProxy {
        let version = self.assembler.current().version;
        let applied = (version != <_>::default()).then_some(version);
        FromProxy::Hello(Hello {
            applied,
            software: concat!("evenkeel-proxy ", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// Says whom this proxy trusts, if that is news.
    async fn tell_trust(&mut self, outbox: &mpsc::Sender<proto::FromProxy>) {
        // Without a file there is nothing to tell; the next dial says what is wrong with it.
        let Ok(trust) = self.dial.trust().await else { return };
        if self.trust.as_ref() != Some(&trust)
            && let Ok(room) = outbox.try_reserve()
        {
            room.send(FromProxy::Trust(trust.clone()).into());
            self.trust = Some(trust);
        }
    }

    async fn serve(
        &mut self,
        mut updates: Streaming<proto::Update>,
        outbox: mpsc::Sender<proto::FromProxy>,
    ) -> Result<(), Ended> {
        let mut sampler = Sampler::new(Arc::clone(self.applier.core()));
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drains = interval(DRAIN_INTERVAL);
        drains.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(TRUST_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                update = updates.message() => {
                    let Some(update) = update? else { return Ok(()) };
                    let Some(assembled) = self.assembler.take(update)? else { continue };
                    let ack = self.applier.apply(&assembled.snapshot, assembled.rejections).await;
                    let sent = timeout(ANSWER_TIMEOUT, outbox.send(FromProxy::Ack(ack).into())).await;
                    sent.map_err(|_| Ended::NotRead)?.map_err(|_| Ended::Closed)?;
                    self.told = true;
                    if sampler.find_drains() {
                        report(&mut sampler, &outbox);
                    }
                }
                _ = drains.tick(), if sampler.awaits_drains() => {
                    if sampler.has_drained() {
                        report(&mut sampler, &outbox);
                    }
                }
                // Before the first version of a stream there is nothing that the operator could relate a report to.
                _ = ticks.tick(), if self.told => report(&mut sampler, &outbox),
                _ = looks.tick() => self.tell_trust(&outbox).await,
            }
        }
    }
}

/// Sends a report, if there is room for it.
fn report(sampler: &mut Sampler, outbox: &mpsc::Sender<proto::FromProxy>) {
    if let Ok(room) = outbox.try_reserve() {
        room.send(FromProxy::Report(sampler.sample()).into());
    }
}

#[cfg(test)]
mod tests;
