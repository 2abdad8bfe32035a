//! Whether nothing is in flight any more at a replica that drains. Pure.

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

/// Whether a replica that drains since `began` can go: on every way every proxy has said, at a version in which the
/// replica drains, that nothing is in flight; or the longest delay has passed.
pub fn is_drained(forwards: &[Forward], began: Timestamp, now: Timestamp) -> bool {
    let longest = forwards.iter().map(|forward| forward.deregistration_delay).max().unwrap_or_default();
    let passed = Duration::try_from(now.duration_since(began)).unwrap_or_default();
    passed >= longest || forwards.iter().all(nothing_in_flight)
}

fn nothing_in_flight(forward: &Forward) -> bool {
    let Some(since) = forward.since else { return false };
    let mut proxies = forward.proxies.iter();
    proxies.all(|said| said.is_some_and(|said| said.version >= since && said.count == 0))
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
    fn a_replica_is_drained_when_every_proxy_says_so_at_a_version_in_which_it_drains() {
        let done = forward(Some(5), &[said(5, 0), said(7, 0)]);
        let table = [
            ("everyone says so", vec![done.clone()], true),
            ("no balancer forwards", vec![], true),
            ("a balancer without proxies", vec![forward(Some(5), &[])], true),
            ("not published as draining", vec![forward(None, &[said(9, 0)])], false),
            ("sampled before it drained", vec![forward(Some(5), &[said(5, 0), said(4, 0)])], false),
            ("something is in flight", vec![forward(Some(5), &[said(5, 0), said(6, 1)])], false),
            ("a proxy has said nothing", vec![forward(Some(5), &[said(5, 0), None])], false),
            ("another balancer is not done", vec![done.clone(), forward(Some(5), &[said(5, 2)])], false),
        ];
        for (case, forwards, drained) in table {
            assert_eq!(
                is_drained(&forwards, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
                drained,
                "{case}"
            );
        }
    }

    #[test]
    fn the_longest_delay_ends_every_drain() {
        let long = Forward { deregistration_delay: DELAY * 2, ..forward(Some(5), &[None]) };
        let forwards = [forward(Some(5), &[None]), long];
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(!is_drained(&forwards, at(0), at(599)));
        assert!(is_drained(&forwards, at(0), at(600)));
    }
}
