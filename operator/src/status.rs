//! Writes statuses: only when they changed, and not too often; and tells of their transitions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::HasConditions;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::{Error, request};
use crate::events::Events;
use crate::labels::MANAGER;
use crate::metrics::{Metrics, WriteOutcome};
use crate::object_key::{ObjectKey, key};
use crate::reconciled::Reconciled;

/// An object's status is written at most so often, on average.
const INTERVAL: Duration = Duration::from_secs(5);
/// So many writes may follow each other at once: an object that comes up goes through a few states quickly.
const BURST: u32 = 4;

/// Writes statuses and remembers what it wrote: the caches are always a little behind.
pub struct Statuses {
    client: Client,
    events: Arc<Events>,
    metrics: Metrics,
    written: Mutex<HashMap<(String, ObjectKey), Written>>,
}

#[derive(Clone)]
struct Written {
    uid: Option<String>,
    /// The object's version with this status.
    version: String,
    status: Value,
    pace: Pace,
}

impl Statuses {
    /// Without any memory.
    pub fn new(client: Client, events: Arc<Events>, metrics: Metrics) -> Self {
        Self { client, events, metrics, written: Mutex::default() }
    }

    /// Writes what `new` makes of the last status if it differs from it, and tells of the conditions that changed.
    /// Later when the object changed too often.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn update<K>(
        &self,
        object: &K,
        new: impl FnOnce(&K::Status) -> K::Status,
        now: Instant,
    ) -> Result<Reconciled, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: HasStatus + DeserializeOwned + Clone + std::fmt::Debug,
        K::Status: HasConditions + Serialize + DeserializeOwned + Clone + Default + PartialEq,
    {
        let last = self.last(object);
        // The caches are a little behind what was written last, but ahead when somebody else has written since.
        let ours = last.as_ref().filter(|last| !is_newer(object.meta(), &last.version));
        let old = ours.and_then(|last| serde_json::from_value(last.status.clone()).ok());
        let old: K::Status = old.or_else(|| object.status().cloned()).unwrap_or_default();
        let new = new(&old);
        if old == new {
            return Ok(Reconciled::Done);
        }
        let mut pace = last.map_or_else(|| Pace::new(now), |last| last.pace);
        if let Err(wait) = pace.take(now) {
            return Ok(Reconciled::Later(wait));
        }
        let status = serde_json::to_value(&new).map_err(unwritable)?;
        let Some(version) = self.patch(object, &status).await? else { return Ok(Reconciled::Done) };
        let uid = object.meta().uid.clone();
        self.written.lock().insert(key(object).of_kind::<K>(), Written { uid, version, status, pace });
        self.events.transitions(object, old.conditions(), new.conditions()).await;
        Ok(Reconciled::Done)
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, key: &ObjectKey) {
        self.written.lock().remove(&key.of_kind::<K>());
    }

    fn last<K: Resource<DynamicType = ()>>(&self, object: &K) -> Option<Written> {
        let written = self.written.lock();
        written.get(&key(object).of_kind::<K>()).filter(|last| last.uid == object.meta().uid).cloned()
    }

    /// Returns the version of the object with that status; nothing when the object is gone.
    async fn patch<K>(&self, object: &K, status: &Value) -> Result<Option<String>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: DeserializeOwned + Clone + std::fmt::Debug,
    {
        let ObjectKey { namespace, name } = key(object);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // With the UID nothing is written to a namesake that was made meanwhile.
            "metadata": { "name": name, "namespace": namespace, "uid": object.meta().uid },
            "status": status,
        });
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let params = PatchParams::apply(MANAGER).force();
        let action = || format!("write the status of {} {namespace}/{name}", K::kind(&()));
        let answer = request(action, api.patch_status(&name, &params, &Patch::Apply(&body))).await;
        let resource = format!("{}/status", K::plural(&()));
        self.metrics.wrote(&resource, if answer.is_ok() { WriteOutcome::Done } else { WriteOutcome::Failed });
        match answer {
            Ok(written) => Ok(Some(written.meta().resource_version.clone().unwrap_or_default())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn unwritable(source: serde_json::Error) -> Error {
    Error::Api { action: "write a status".into(), source: Box::new(kube::Error::SerdeError(source)) }
}

/// Whether an object is newer than a version; versions are numbers that rise.
fn is_newer(meta: &ObjectMeta, version: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    let cached = meta.resource_version.as_deref().and_then(number);
    cached.is_some() && cached > number(version)
}

/// A bucket of [`BURST`] writes that one is added to every [`INTERVAL`].
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When the bucket was or will be full.
    full_at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one, or says after how long there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + INTERVAL;
        match full_at.checked_duration_since(now + INTERVAL * BURST) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_counts_once_it_is_ahead_of_what_was_written_last() {
        for (cached, written, newer) in [
            (Some("10"), "9", true),
            (Some("9"), "9", false),
            (Some("9"), "10", false),
            (None, "9", false),
            (Some("opaque"), "9", false),
        ] {
            let meta = ObjectMeta { resource_version: cached.map(Into::into), ..ObjectMeta::default() };
            assert_eq!(is_newer(&meta, written), newer, "{cached:?} {written}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flapping_object_is_written_every_five_seconds_after_a_short_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(INTERVAL));
        assert_eq!(pace.take(start + Duration::from_secs(2)), Err(Duration::from_secs(3)));
        let writes =
            (0..600).filter(|tenth| pace.take(start + Duration::from_millis(tenth * 100)).is_ok()).count();
        assert_eq!(writes, 11, "one every 5 s in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_object_gets_its_burst_back() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        while pace.take(start).is_ok() {}
        let later = start + INTERVAL * BURST;
        assert_eq!((0..10).filter(|_| pace.take(later).is_ok()).count(), BURST as usize);
    }
}
