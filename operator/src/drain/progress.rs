//! How far the drain of a replica came. Pure.

use std::time::Duration;

use evenkeel_proxy_api::snapshot::Version;
use jiff::Timestamp;

use crate::reports::InFlight;

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

/// How far a drain that began at `began` came: what counts is what every proxy on every way has said at a version in
/// which the replica drains, until the longest delay has passed.
pub fn progress(forwards: &[Forward], began: Timestamp, now: Timestamp) -> Progress {
    let longest = forwards.iter().map(|forward| forward.deregistration_delay).max().unwrap_or_default();
    let passed = Duration::try_from(now.duration_since(began)).unwrap_or_default();
    if forwards.iter().all(|forward| forward.everyone_says(|said| said.count == 0)) {
        Progress::Idle
    } else if passed >= longest {
        Progress::Overdue
    } else if forwards.iter().all(|forward| forward.everyone_says(|_| true)) {
        Progress::Acknowledged
    } else {
        Progress::Begun
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
            (
                "another balancer is not done",
                vec![done.clone(), forward(Some(5), &[said(5, 2)])],
                Acknowledged,
            ),
        ];
        for (case, forwards, expected) in table {
            let found = progress(&forwards, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn the_longest_delay_ends_every_drain() {
        let long = Forward { deregistration_delay: DELAY * 2, ..forward(Some(5), &[None]) };
        let forwards = [forward(Some(5), &[None]), long];
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(progress(&forwards, at(0), at(599)), Progress::Begun);
        assert_eq!(progress(&forwards, at(0), at(600)), Progress::Overdue);
    }
}
