//! How far the drain of a replica came, and when it was given its time. Pure.
//!
//! A drain's time counts from when every proxy has heard of it, by the leader's own clock, not from what is annotated: a
//! leader may die between annotating a replica and telling the proxies, and the next one may come late. Proxies that heard of
//! the drain from the leader before go on counting from then (`proxy/src/cells.rs`) and close what is left in time: a change of
//! leader prolongs a drain only where some proxy does not answer, by one delay from the last change on.

use std::collections::HashMap;
use std::time::Duration;

use evenkeel_proxy_api::snapshot::Version;

use tokio::time::Instant;

use crate::reports::InFlight;

/// Proxies are given so long to hear that a replica drains, however short the delay is: they would go on sending there while
/// it ends. They find a new leader within about ten seconds.
const HEARD_WITHIN: Duration = Duration::from_secs(15);
/// What a proxy has heard, it says within so long.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// One way for requests to a replica: a target group of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Upper bound of a drain there.
    pub deregistration_delay: Duration,
    /// The version from which on the replica is published there as draining; none while it is not.
    pub since: Option<Version>,
    /// What each proxy that may have something in flight said last; none where it said nothing yet.
    pub proxies: Vec<Option<InFlight>>,
}

/// How far a drain came, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Some proxy may not have heard of it.
    Begun,
    /// Nothing new is sent there, every proxy says; something is in flight.
    Acknowledged,
    /// Nothing is in flight there any more, every proxy says.
    Idle,
    /// It was given its time, whatever is in flight.
    Overdue,
}

/// How old a drain is, for the leader of this term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Since it noticed it.
    pub known_for: Duration,
    /// From then until every proxy had said that it had heard of it; none while one has not. Proxies that start later have
    /// nothing in flight there.
    pub heard_after: Option<Duration>,
}

/// How far a drain came: what counts is what every proxy on every way has said at a version in which the replica drains,
/// until the longest delay has passed.
pub fn progress(forwards: &[Forward], age: Age) -> Progress {
    let heard = forwards.iter().all(|forward| forward.everyone_says(|_| true));
    let Age { known_for, heard_after } = age;
    let heard_after = heard_after.or(heard.then_some(known_for));
    let hearing =
        heard_after.map_or(HEARD_WITHIN, |after| after.saturating_sub(SAID_WITHIN).min(HEARD_WITHIN));
    let longest = forwards.iter().map(|forward| forward.deregistration_delay).max().unwrap_or_default();
    if forwards.iter().all(|forward| forward.everyone_says(|said| said.count == 0)) {
        Progress::Idle
    } else if known_for >= hearing + longest {
        Progress::Overdue
    } else if heard {
        Progress::Acknowledged
    } else {
        Progress::Begun
    }
}

/// The drains that this leader knows of, by the UIDs of the replicas' pods.
#[derive(Debug, Default)]
pub(super) struct Drains(HashMap<String, Drain>);

#[derive(Debug)]
struct Drain {
    /// What is annotated: another drain has another time.
    annotation: String,
    noticed: Instant,
    heard: Option<Instant>,
}

impl Drains {
    /// Takes note of which replicas drain now, with their annotations.
    pub(super) fn note<'a>(&mut self, drains: impl Iterator<Item = (&'a str, &'a str)>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for (uid, annotation) in drains {
            let known = before.remove(uid).filter(|drain| drain.annotation == annotation);
            let new = || Drain { annotation: annotation.to_owned(), noticed: now, heard: None };
            self.0.insert(uid.to_owned(), known.unwrap_or_else(new));
        }
    }

    /// Takes note that every proxy has heard of the drain of a replica.
    pub(super) fn hear(&mut self, uid: &str, now: Instant) {
        if let Some(drain) = self.0.get_mut(uid) {
            drain.heard.get_or_insert(now);
        }
    }

    /// How old the drain of a replica is.
    pub(super) fn age(&self, uid: &str, now: Instant) -> Age {
        let age = |drain: &Drain| Age {
            known_for: now.duration_since(drain.noticed),
            heard_after: drain.heard.map(|heard| heard.duration_since(drain.noticed)),
        };
        self.0.get(uid).map(age).unwrap_or_default()
    }
}

impl Progress {
    /// Whether every proxy is known to have heard of the drain.
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Idle)
    }
}

impl Forward {
    fn everyone_says(&self, what: impl Fn(InFlight) -> bool) -> bool {
        let Some(since) = self.since else { return false };
        let mut proxies = self.proxies.iter();
        proxies.all(|said| said.is_some_and(|said| said.version >= since && what(said)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(300);

    fn version(counter: u64) -> Version {
        Version { epoch: 1, counter }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as proxies are: some said nothing")]
    fn said(counter: u64, count: u32) -> Option<InFlight> {
        Some(InFlight { version: version(counter), count })
    }

    #[allow(clippy::unnecessary_wraps, reason = "as proxies are: some said nothing")]
    fn former(counter: u64) -> Option<InFlight> {
        Some(InFlight { version: Version { epoch: 0, counter }, count: 0 })
    }

    fn forward(since: Option<u64>, proxies: &[Option<InFlight>]) -> Forward {
        Forward { deregistration_delay: DELAY, since: since.map(version), proxies: proxies.to_vec() }
    }

    #[test]
    fn a_drain_gets_on_with_what_every_proxy_says_at_a_version_in_which_the_replica_drains() {
        use Progress::{Acknowledged, Begun, Idle};
        let done = forward(Some(5), &[said(5, 0), said(7, 0)]);
        let table = [
            ("everyone says so", vec![done.clone()], Idle),
            ("no balancer forwards", vec![], Idle),
            ("a balancer without proxies", vec![forward(Some(5), &[])], Idle),
            ("not published as draining", vec![forward(None, &[said(9, 0)])], Begun),
            ("sampled before it drained", vec![forward(Some(5), &[said(5, 0), said(4, 0)])], Begun),
            ("something is in flight", vec![forward(Some(5), &[said(5, 0), said(6, 1)])], Acknowledged),
            ("a proxy has said nothing", vec![forward(Some(5), &[said(5, 0), None])], Begun),
            ("sampled under the leader before", vec![forward(Some(5), &[former(9)])], Begun),
            (
                "another balancer is not done",
                vec![done.clone(), forward(Some(5), &[said(5, 2)])],
                Acknowledged,
            ),
        ];
        for (case, forwards, expected) in table {
            let found = progress(&forwards, Age::default());
            assert_eq!(found, expected, "{case}");
        }
    }

    fn age(known_for: u64, heard_after: Option<u64>) -> Age {
        Age { known_for: Duration::from_secs(known_for), heard_after: heard_after.map(Duration::from_secs) }
    }

    #[test]
    fn the_longest_delay_ends_every_drain() {
        let long = Forward { deregistration_delay: DELAY * 2, ..forward(Some(5), &[said(5, 1)]) };
        let forwards = [forward(Some(5), &[said(5, 1)]), long];
        let after = |seconds| progress(&forwards, age(seconds, Some(0)));
        assert_eq!((after(599), after(600)), (Progress::Acknowledged, Progress::Overdue));
    }

    #[test]
    fn a_drain_is_given_its_time_from_when_every_proxy_has_heard_of_it_within_bounds() {
        use Progress::{Acknowledged, Begun, Idle, Overdue};
        for (case, delay, said, age, expected) in [
            ("no delay, somebody has not heard", 0, None, age(14, None), Begun),
            ("no delay, somebody never hears", 0, None, age(15, None), Overdue),
            ("no delay, everybody has heard", 0, said(5, 1), age(1, Some(1)), Overdue),
            ("no delay, nothing is in flight", 0, said(5, 0), age(0, None), Idle),
            ("at once", 10, said(5, 1), age(9, Some(1)), Acknowledged),
            ("at once, its time is over", 10, said(5, 1), age(10, Some(1)), Overdue),
            ("just now, long after a change of leader", 10, said(5, 1), age(12, None), Acknowledged),
            ("late", 10, said(5, 1), age(20, Some(12)), Acknowledged),
            ("late, its time is over", 10, said(5, 1), age(21, Some(12)), Overdue),
            ("a proxy came later, and says nothing yet", 10, None, age(10, Some(1)), Overdue),
            ("somebody has not heard", 300, said(4, 1), age(314, None), Begun),
            ("somebody never hears", 300, said(4, 1), age(315, None), Overdue),
            ("nobody is waited for so long", 300, said(5, 1), age(315, Some(200)), Overdue),
        ] {
            let deregistration_delay = Duration::from_secs(delay);
            let forwards = [Forward { deregistration_delay, ..forward(Some(5), &[said]) }];
            assert_eq!(progress(&forwards, age), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_as_old_as_its_leader_knows_of_it_whatever_is_annotated() {
        let (mut drains, begin) = (Drains::default(), Instant::now());
        for (case, at, noted, expected) in [
            ("not there", 0, vec![], age(0, None)),
            ("noticed", 1, vec![("a", "2020-01-01T00:00:00Z")], age(0, None)),
            ("beside another one", 3, vec![("b", "garbage"), ("a", "2020-01-01T00:00:00Z")], age(2, None)),
            ("another drain of the same replica", 4, vec![("a", "9999-01-01T00:00:00Z")], age(0, None)),
            ("that goes on", 9, vec![("a", "9999-01-01T00:00:00Z")], age(5, None)),
            ("cancelled", 10, vec![], age(0, None)),
            ("and begun again", 11, vec![("a", "9999-01-01T00:00:00Z")], age(0, None)),
        ] {
            let now = begin + Duration::from_secs(at);
            drains.note(noted.into_iter(), now);
            assert_eq!(drains.age("a", now), expected, "{case}");
        }
        let at = |seconds| begin + Duration::from_secs(seconds);
        for seconds in [13, 14] {
            drains.hear("a", at(seconds));
            drains.hear("nobody", at(seconds));
        }
        assert_eq!(drains.age("a", at(20)), age(9, Some(2)), "what was heard first counts");
        drains.note(std::iter::empty(), at(21));
        assert!(drains.0.is_empty(), "what is over is forgotten");
    }
}
