//! Plays leaders that die against proxies that hear late: neither the proxies nor the removal of the replica may end a
//! request that takes no longer than the deregistration delay, and the drain ends. Times are in tenths of a second.

use std::time::Duration;

use evenkeel_proxy_api::snapshot::Version;
use tokio::time::Instant;

use super::progress::{Drains, Forward, Progress, progress};
use crate::reports::InFlight;

/// So many orders of events are tried.
const SEEDS: u64 = 2_000;
/// A proxy finds a new leader within so long.
const FINDS_WITHIN: u64 = 100;
/// A replica is told to stop so long after the last look at its drain, at the earliest: its `preStop` sleeps.
const STOPS_AFTER: u64 = 50;

/// A proxy, as far as one replica goes.
struct Proxy {
    /// When it first heard that the replica drains.
    heard: Option<u64>,
    /// When it finds the leader.
    finds: u64,
    /// When, of each second, it reports.
    beat: u64,
    /// What it said last, and at which leader's version it was sampled.
    said: Option<InFlight>,
    /// When the requests there began, and how long each takes.
    requests: Vec<(u64, u64)>,
}

impl Proxy {
    fn in_flight(&self, at: u64) -> usize {
        self.requests.iter().filter(|(began, takes)| began + takes > at).count()
    }

    /// Sends to the replica until it hears of the drain, closes what is left a delay after that, and reports.
    fn act(&mut self, at: u64, leader: u64, delay: u64, rng: &mut fastrand::Rng) {
        if at >= self.finds {
            self.heard.get_or_insert(at);
        }
        match self.heard {
            None => self.requests.push((at, rng.u64(..=delay))),
            Some(heard) if at >= heard + delay => assert_eq!(self.in_flight(at), 0, "a proxy cuts it"),
            Some(_) => {}
        }
        if at >= self.finds && at % 10 == self.beat {
            let count = self.in_flight(at) as u32;
            self.said = Some(InFlight { version: Version { epoch: leader, counter: 1 }, count });
        }
    }
}

/// Leader after leader, the first of which annotated the replica at 0, until the drain is over. Says when.
fn play(seed: u64) -> Result<u64, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let delay = [0, 20, 50, 100, 1_000][rng.usize(..5)];
    let mut proxies = [0; 3].map(|_| Proxy {
        heard: None,
        finds: rng.u64(..FINDS_WITHIN),
        beat: rng.u64(..10),
        said: None,
        requests: Vec::new(),
    });
    let (begin, mut drains, mut leader) = (Instant::now(), Drains::default(), 1);
    let (mut comes, mut dies) = (0, rng.u64(..400));
    let changes = rng.u64(..4);
    for at in 0..20_000 {
        if at == dies && leader <= changes {
            // The next one knows nothing, and comes when it comes: until then nobody looks.
            comes = at + rng.u64(..3_000);
            for proxy in &mut proxies {
                (proxy.finds, proxy.said) = (comes + rng.u64(..FINDS_WITHIN), None);
            }
            (drains, leader, dies) = (Drains::default(), leader + 1, comes + rng.u64(..400));
            continue;
        }
        for proxy in &mut proxies {
            proxy.act(at, leader, delay, &mut rng);
        }
        let now = begin + Duration::from_millis(at * 100);
        if at >= comes && look(&proxies, &mut drains, (leader, delay), now) >= Progress::Idle {
            return over(&proxies, at, delay).map(|()| at);
        }
    }
    Err("the drain does not end".into())
}

fn look(proxies: &[Proxy], drains: &mut Drains, (leader, delay): (u64, u64), now: Instant) -> Progress {
    drains.note([("uid", "2026-01-01T00:00:00Z")].into_iter(), now);
    let forward = Forward {
        deregistration_delay: Duration::from_millis(delay * 100),
        since: Some(Version { epoch: leader, counter: 1 }),
        proxies: proxies.iter().map(|proxy| proxy.said).collect(),
    };
    let progress = progress(&[forward], drains.age("uid", now));
    if progress.is_heard() {
        drains.hear("uid", now);
    }
    progress
}

/// Whether the replica may end.
fn over(proxies: &[Proxy], at: u64, delay: u64) -> Result<(), String> {
    let unaware = proxies.iter().filter(|proxy| proxy.heard.is_none()).count();
    let left: usize = proxies.iter().map(|proxy| proxy.in_flight(at + STOPS_AFTER)).sum();
    match (unaware, left) {
        (0, 0) => Ok(()),
        _ => Err(format!("at {at}, of {delay}: {unaware} proxies are unaware, {left} requests are cut")),
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_shorter_than_the_delay_is_cut_however_often_leaders_change() {
    for seed in 0..SEEDS {
        let found = play(seed);
        assert!(found.is_ok(), "seed {seed}: {found:?}");
    }
}
