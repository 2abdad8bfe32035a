//! How long replicas took from the decision that they go to their removal, as the operator's events say.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::cluster::Namespace;

/// Events that were there before a case began.
pub struct Before(HashSet<String>);

impl Before {
    /// Those of now.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn now(ns: &Namespace) -> Result<Self> {
        Ok(Self(events(ns).await?.iter().filter_map(Event::uid).collect()))
    }

    /// What was told of removals since. Of replicas that went together, how long the last one took.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn removals(&self, ns: &Namespace) -> Result<Vec<Duration>> {
        let events = events(ns).await?;
        let new = events.iter().filter(|event| event.uid().is_none_or(|uid| !self.0.contains(&uid)));
        let removed = new.filter(|event| event.reason.as_deref() == Some("ReplicaRemoved"));
        Ok(removed.filter_map(|event| took(event.note.as_deref()?)).collect())
    }
}

async fn events(ns: &Namespace) -> Result<Vec<Event>> {
    let events: Api<Event> = ns.api();
    Ok(events.list(&ListParams::default()).await?.items)
}

/// `web-1, web-2: removed, 1.2 s after it was chosen` → 1.2 s.
fn took(note: &str) -> Option<Duration> {
    let (_, after) = note.rsplit_once(", ")?;
    let seconds: f64 = after.strip_suffix(" s after it was chosen")?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_removal_says_how_long_it_took() {
        for (note, expected) in [
            ("web-1: removed, 0.7 s after it was chosen", Some(700)),
            ("web-1, web-2 and 3 more: removed, 12.0 s after it was chosen", Some(12_000)),
            ("web-1: removed", None),
            ("web-1: removed, some s after it was chosen", None),
            ("web-1: removed, -1.0 s after it was chosen", None),
            ("", None),
        ] {
            assert_eq!(took(note), expected.map(Duration::from_millis), "{note}");
        }
    }
}
