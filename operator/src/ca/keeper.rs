//! Takes over what the Secret says, signs what the push server shows, and takes a rotation from step to step.

use std::sync::Arc;

use evenkeel_proxy_api::trust::Fingerprint;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::authority::SERVING_LIFE;
use super::rotation::{Action, Cause, Facts, Pace, Phase, decide};
use super::secret::{Authorities, ensure, replace};
use super::{Authority, Error, Metrics, ROTATE};
use crate::events::Events;
use crate::push::{PushState, Serving};
use crate::world::{World, may_run};

/// A serving certificate is renewed when this much of its life is left.
const RENEWAL: SignedDuration = SignedDuration::from_secs(SERVING_LIFE.as_secs() / 3);
/// Reason of the event that the hour, not the proxies, decided.
const WITHOUT: &str = "RotatedWithout";
/// So many proxies are named.
const NAMED: usize = 10;

/// What a keeper looks at, and whom it tells.
pub struct Around {
    /// Which proxies there are.
    pub world: Arc<World>,
    /// What they said.
    pub state: Arc<PushState>,
    /// For the Secret's events.
    pub events: Arc<Events>,
    /// Expiries, and how far a rotation has come.
    pub metrics: Metrics,
    /// How long things take.
    pub pace: Pace,
}

/// Holds the authorities while this operator leads.
pub struct Keeper {
    api: Api<Secret>,
    namespace: String,
    /// As it was read or written last.
    secret: Secret,
    authorities: Authorities,
    /// Since when the authorities are these, for this leader.
    since: Instant,
    bundle: watch::Sender<String>,
    serving: Arc<Serving>,
    /// Who signed what is shown, and when that expires.
    signed: (Fingerprint, Timestamp),
    /// Proxies of which it was said that they are waited for.
    reminded: Vec<String>,
}

impl Keeper {
    /// Reads the Secret, or makes it, and signs the term's first serving certificate.
    pub async fn load(api: Api<Secret>, namespace: &str, now: Timestamp) -> Result<Self, Error> {
        let secret = ensure(&api, || Authorities::generate(now)).await?;
        let authorities = Authorities::read(&secret)?;
        let identity = authorities.current.sign(namespace, now)?;
        Ok(Self {
            api,
            namespace: namespace.to_owned(),
            secret,
            since: Instant::now(),
            bundle: watch::Sender::new(authorities.bundle()),
            signed: (authorities.current.fingerprint(), identity.expires),
            serving: Arc::new(Serving::new(identity)?),
            reminded: Vec::new(),
            authorities,
        })
    }

    /// What the push server shows.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.clone()
    }

    /// What proxies are to trust, now and later.
    pub fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// Looks at the Secret, and does what is to be done. A Secret that is gone is put back as it was: no proxy notices.
    async fn look(&mut self, around: &Around, now: Timestamp) -> Result<(), Error> {
        self.sign(now)?; // also while nobody can say what the Secret holds
        let held = &self.authorities;
        let secret = ensure(&self.api, || Ok(held.clone())).await?;
        self.take_over(secret, around, now).await?;
        let awaited = self.awaited(around);
        let (expires, phase) = (self.authorities.current.expires(), self.authorities.phase());
        around.metrics.show(phase, expires, self.signed.1, awaited.len());
        let facts = Facts {
            phase,
            lasts: self.since.elapsed(),
            left: expires.duration_since(now),
            wish: self.secret.annotations().contains_key(ROTATE),
            awaited: awaited.len(),
        };
        self.act(decide(&facts, &around.pace), awaited, around, now).await
    }

    async fn act(
        &mut self,
        action: Action,
        awaited: Vec<String>,
        around: &Around,
        now: Timestamp,
    ) -> Result<(), Error> {
        let authorities = self.authorities.clone();
        let next = match action {
            Action::Keep => return Ok(()),
            Action::Remind => {
                self.remind(awaited, around).await;
                return Ok(());
            }
            Action::Publish(cause) => {
                match cause {
                    Cause::Age => info!("the certificate authority expires within a year"),
                    Cause::Wish => info!(annotation = ROTATE, "another certificate authority is asked for"),
                }
                authorities.published(Authority::generate(now)?)
            }
            Action::Promote => authorities.promoted(),
            Action::Retire => authorities.retired(),
        };
        let mut secret = self.secret.clone();
        next.write(&mut secret);
        if next.phase() == Phase::Published {
            secret.annotations_mut().remove(ROTATE); // the wish is granted
        }
        // Where somebody else was faster, the next look sees what they did.
        let Some(written) = replace(&self.api, &secret).await? else { return Ok(()) };
        self.take_over(written, around, now).await
    }

    /// Publishes what a Secret holds, and tells of it where it is news.
    async fn take_over(&mut self, secret: Secret, around: &Around, now: Timestamp) -> Result<(), Error> {
        if secret.metadata.resource_version == self.secret.metadata.resource_version {
            return Ok(());
        }
        let authorities = Authorities::read(&secret)?;
        let changed = authorities != self.authorities;
        (self.secret, self.authorities) = (secret, authorities);
        if changed {
            self.since = Instant::now();
            self.reminded.clear();
            self.bundle.send_replace(self.authorities.bundle());
            self.sign(now)?;
            self.tell(around).await;
        }
        Ok(())
    }

    /// Shows a new serving certificate when another authority signs, or when the one that is shown is about to expire.
    fn sign(&mut self, now: Timestamp) -> Result<(), Error> {
        let issuer = &self.authorities.current;
        let (signer, expires) = self.signed;
        let left = expires.duration_since(now);
        // More is left than there was only when the clock was set back: then it is not valid yet.
        let lasts = (RENEWAL < left && left <= SERVING_LIFE) || expires == issuer.expires();
        if signer == issuer.fingerprint() && lasts {
            return Ok(());
        }
        let identity = issuer.sign(&self.namespace, now)?;
        let expires = identity.expires;
        self.serving.show(identity)?;
        self.signed = (issuer.fingerprint(), expires);
        info!(authority = %issuer.fingerprint(), %expires, "new streams are shown a new serving certificate");
        Ok(())
    }

    /// Live proxies that have not said that they trust the newest authority. Those that are leaving do not count.
    fn awaited(&self, around: &Around) -> Vec<String> {
        let newest = self.authorities.newest().fingerprint();
        let pods = around.world.all_proxies().into_iter();
        let live = pods.filter(|(_, pod)| may_run(pod) && pod.metadata.deletion_timestamp.is_none());
        let awaited = live.filter(|(key, pod)| {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            !around.state.trusts(key, uid, &newest)
        });
        let mut names: Vec<_> =
            awaited.map(|(key, pod)| format!("{}/{}", key.namespace, pod.name_any())).collect();
        names.sort_unstable();
        names
    }

    async fn tell(&self, around: &Around) {
        let newest = self.authorities.newest().fingerprint();
        let awaited = self.awaited(around);
        let (reason, note) = match self.authorities.phase() {
            Phase::Published => {
                let longest = around.pace.patience.as_secs() / 60;
                let ends = format!("it signs once every proxy trusts it, or in {longest} minutes");
                ("RotationStarted", format!("the next certificate authority {newest} is published; {ends}"))
            }
            Phase::Promoted if awaited.is_empty() => {
                ("Rotated", format!("every proxy trusts the certificate authority {newest}, and it signs"))
            }
            Phase::Promoted => {
                let rest = "one that loses its stream connects again once its CA file has it";
                let note = format!("the certificate authority {newest} signs, not trusted by all: {rest}");
                (WITHOUT, format!("{note}; {}", missing(&awaited)))
            }
            Phase::Settled => {
                ("RotationCompleted", format!("only the certificate authority {newest} is published"))
            }
        };
        around.events.publish(&self.secret, reason == WITHOUT, reason, note).await;
    }

    async fn remind(&mut self, awaited: Vec<String>, around: &Around) {
        if awaited == self.reminded {
            return;
        }
        let waits = "not every proxy has said that it trusts the next certificate authority";
        let note = format!("{waits}, which signs without them in the end; {}", missing(&awaited));
        around.events.publish(&self.secret, true, "RotationWaits", note).await;
        self.reminded = awaited;
    }
}

fn missing(proxies: &[String]) -> String {
    let names: Vec<_> = proxies.iter().take(NAMED).map(String::as_str).collect();
    let more = if proxies.len() > NAMED { ", …" } else { "" };
    format!("{} missing: {}{more}", proxies.len(), names.join(", "))
}

/// Keeps the authorities for as long as this operator leads.
pub async fn keep(mut keeper: Keeper, around: Around) -> &'static str {
    const NAME: &str = "certificate authority";
    if around.world.ready().await.is_err() {
        return NAME;
    }
    let _shown = around.metrics.until_dropped();
    let mut failure = None;
    loop {
        let failed = keeper.look(&around, Timestamp::now()).await.err().map(|error| error.to_string());
        if let Some(error) = &failed
            && failed != failure
        {
            warn!(error, "the certificate authority stays as it is; it is tried again");
        }
        failure = failed;
        sleep(around.pace.look).await;
    }
}

#[cfg(test)]
mod tests;
