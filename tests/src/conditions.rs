//! Awaits what should come true, and says what it saw last when it does not.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use evenkeel_crds::v1alpha1::{HasConditions, StatusCondition};
use futures::StreamExt as _;
use kube::api::Api;
use kube::core::object::HasStatus;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

/// What has not come true by then is not going to.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// From one attempt to the next, where nothing can be watched.
const RETRY: Duration = Duration::from_millis(100);

/// What can be awaited of an object.
pub trait Watchable: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static {}
impl<K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static> Watchable for K {}

/// Kinds with conditions in their status.
pub trait Conditioned: Resource {
    /// The condition of that type, if it describes the current generation.
    fn condition(&self, type_: &str) -> Option<&StatusCondition>;

    /// Whether the condition of that type is true, of the current generation.
    fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Whether the condition of that type is false for that reason, of the current generation.
    fn is_not(&self, type_: &str, reason: &str) -> bool {
        self.condition(type_)
            .is_some_and(|condition| condition.status == "False" && condition.reason == reason)
    }
}

impl<K: Resource + HasStatus<Status: HasConditions>> Conditioned for K {
    fn condition(&self, type_: &str) -> Option<&StatusCondition> {
        self.status()?
            .conditions()
            .iter()
            .find(|condition| condition.type_ == type_)
            .filter(|condition| condition.observed_generation >= self.meta().generation)
    }
}

/// Waits until `holds` is true of the object, and returns the object as it is then.
///
/// # Errors
/// After [`DEADLINE`], with the status that the object had last.
pub async fn until<K: Watchable>(
    api: &Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(&K) -> bool,
) -> Result<K> {
    let found = until_option(api, name, what, |object| object.is_some_and(&holds)).await?;
    found.with_context(|| format!("{name}: it was there, and gone at once"))
}

/// Waits until the object is gone.
///
/// # Errors
/// After [`DEADLINE`], with the status that the object had last.
pub async fn until_gone<K: Watchable>(api: &Api<K>, name: &str) -> Result<()> {
    until_option(api, name, "gone", |object| object.is_none()).await.map(drop)
}

async fn until_option<K: Watchable>(
    api: &Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(Option<&K>) -> bool,
) -> Result<Option<K>> {
    let deadline = Instant::now() + DEADLINE;
    let mut objects = watcher::watch_object(api.clone(), name).default_backoff().boxed();
    let mut seen = String::from("nothing");
    while let Ok(event) = timeout_at(deadline, objects.next()).await {
        match event {
            Some(Ok(object)) if holds(object.as_ref()) => return Ok(object),
            Some(Ok(object)) => seen = object.as_ref().map_or_else(|| "it does not exist".into(), describe),
            Some(Err(error)) => seen = format!("a failed watch: {error}"),
            None => bail!("{name}: the watch ended; last seen: {seen}"),
        }
    }
    Err(anyhow!("{name} is not {what} after {} s; last seen: {seen}", DEADLINE.as_secs()))
}

/// Tries until it succeeds: for what cannot be watched, such as the answer to a request.
///
/// # Errors
/// After [`DEADLINE`], with the last error.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = anyhow!("the first attempt did not end");
    while let Ok(result) = timeout_at(deadline, attempt()).await {
        match result {
            Ok(value) => return Ok(value),
            Err(error) => last = error,
        }
        sleep(RETRY).await;
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(last.context(format!("gave up on this after {} s: {what}", DEADLINE.as_secs())))
}

fn describe<K: Watchable>(object: &K) -> String {
    let value = serde_json::to_value(object).unwrap_or_default();
    let generation = object.meta().generation.unwrap_or_default();
    let deleting = if object.meta().deletion_timestamp.is_some() { ", being deleted" } else { "" };
    let finalizers = object.finalizers();
    let status = value.get("status").map_or_else(|| "none".into(), |status| format!("{status:#}"));
    format!("generation {generation}{deleting}, finalizers {finalizers:?}, status {status}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;
    use evenkeel_crds::v1alpha1::LoadBalancer;

    #[tokio::test(start_paused = true)]
    async fn what_never_succeeds_is_given_up_with_its_last_error() {
        let mut attempts = 0;
        let error = eventually("an answer", async || -> Result<()> {
            attempts += 1;
            bail!("attempt {attempts}")
        })
        .await
        .unwrap_err();
        assert!(attempts > 500, "{attempts}");
        assert_eq!(
            format!("{error:#}"),
            format!("gave up on this after 60 s: an answer: attempt {attempts}")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_succeeds_late_succeeds() {
        let mut attempts = 0;
        let attempt = async || {
            attempts += 1;
            ensure!(attempts == 3, "not yet");
            Ok(attempts)
        };
        assert_eq!(eventually("a third attempt", attempt).await.unwrap(), 3);
    }

    #[test]
    fn a_condition_of_an_older_generation_says_nothing() {
        let balancer: LoadBalancer = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "shop", "generation": 2},
            "spec": {"listeners": []},
            "status": {"conditions": [
                {"type": "Programmed", "status": "True", "observedGeneration": 1, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Accepted", "status": "False", "observedGeneration": 2, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap();
        assert!(!balancer.is("Programmed"));
        assert!(balancer.is_not("Accepted", "R"));
        assert!(!balancer.is_not("Accepted", "AnotherReason"));
    }
}
