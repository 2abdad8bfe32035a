//! What happened, second by second, and what it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::traffic::Tally;

/// The acts of the show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Little to do.
    Calm,
    /// More than the replicas can take.
    Spike,
    /// Little to do again.
    Quiet,
    /// It is over.
    Over,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Calm => "calm",
            Self::Spike => "spike",
            Self::Quiet => "quiet",
            Self::Over => "over",
        })
    }
}

/// What was seen of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// How many replicas there should be.
    pub desired: i32,
    /// Names of the replicas that serve.
    pub ready: BTreeSet<String>,
    /// Replicas that are leaving.
    pub draining: i32,
    /// All of them, also those that are not ready yet.
    pub pods: i32,
    /// Mean CPU utilisation in percent of the requests, where it is known.
    pub cpu_percent: Option<f64>,
    /// Why the number of replicas changed last.
    pub last_scaling: Option<String>,
}

/// One second.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its end, since the beginning of the show.
    pub at: Duration,
    /// The act it belongs to.
    pub phase: Phase,
    /// Requests with an outcome, per second.
    pub rate: f64,
    /// Requests that failed.
    pub failed: u64,
    /// Latency that half of the requests did not exceed.
    pub p50: Duration,
    /// Latency that 99 % of the requests did not exceed.
    pub p99: Duration,
    /// Requests by the replica that answered.
    pub by_replica: BTreeMap<String, u64>,
    /// The cluster at its end.
    pub observed: Observed,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, since the beginning of the show.
    pub at: Duration,
    /// What.
    pub text: String,
}

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct Story {
    /// The CPU utilisation that is kept, in percent.
    pub target_percent: u16,
    /// The smallest number of replicas.
    pub min: i32,
    /// The largest number of replicas.
    pub max: i32,
    /// Second by second.
    pub samples: Vec<Sample>,
    /// In order.
    pub marks: Vec<Mark>,
    /// From the beginning of the spike to the first answer from a replica that had not answered before it.
    pub first_new_replica: Option<Duration>,
    /// How many replicas served at the end of the spike, and the difference between the one that answered most and the
    /// one that answered least, in percent of the mean: of the requests that began when all of them served.
    pub spread: Option<(usize, f64)>,
}

impl Story {
    /// Nothing yet.
    pub fn new(target_percent: u16, min: i32, max: i32) -> Self {
        Self {
            target_percent,
            min,
            max,
            samples: Vec::new(),
            marks: Vec::new(),
            first_new_replica: None,
            spread: None,
        }
    }

    /// The last second.
    pub fn now(&self) -> Option<&Sample> {
        self.samples.last()
    }

    /// Adds a second, and marks what is new in it.
    pub fn push(&mut self, sample: Sample) {
        let before = self.now().map(|sample| sample.observed.clone()).unwrap_or_default();
        let scaled = &sample.observed.last_scaling;
        if let Some(text) =
            scaled.as_ref().filter(|_| *scaled != before.last_scaling && !self.samples.is_empty())
        {
            self.mark(sample.at, text.clone());
        }
        self.samples.push(sample);
    }

    /// Adds something worth telling.
    pub fn mark(&mut self, at: Duration, text: impl Into<String>) {
        self.marks.push(Mark { at, text: text.into() });
    }

    /// When an act began.
    pub fn began(&self, phase: Phase) -> Option<Duration> {
        let first = self.samples.iter().position(|sample| sample.phase == phase)?;
        Some(
            first.checked_sub(1).and_then(|before| self.samples.get(before)).map_or(Duration::ZERO, |s| s.at),
        )
    }

    /// Whether, in the last second, every replica that is ready answered.
    pub fn all_serve(&self) -> bool {
        self.now()
            .is_some_and(|now| now.observed.ready.iter().all(|replica| now.by_replica.contains_key(replica)))
    }

    /// Whether other replicas are ready than a second before.
    pub fn other_replicas(&self) -> bool {
        match self.samples.as_slice() {
            [.., before, now] => before.observed.ready != now.observed.ready,
            _ => true,
        }
    }
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Requests with an outcome.
    pub requests: u64,
    /// Requests without an answer, or with one other than 2XX.
    pub failed: u64,
    /// Most replicas that were ready at once in the spike, and how unevenly they shared the requests, in percent.
    pub spread: Option<(usize, f64)>,
    /// From the beginning of the spike to the first answer from a new replica.
    pub first_new_replica: Option<Duration>,
    /// Whether it went out to three times the minimum.
    pub scaled_out: bool,
    /// Whether it came back to the minimum.
    pub scaled_in: bool,
    /// The smallest number of replicas.
    pub min: i32,
    /// Why requests failed, and how many each.
    pub failures: Vec<(String, u64)>,
}

impl Summary {
    /// Sums up.
    pub fn of(story: &Story, total: &Tally) -> Self {
        let spread = story.spread;
        let peak = spread.map_or(0, |(ready, _)| ready);
        let last = story.now().map(|sample| &sample.observed);
        Self {
            requests: total.requests,
            failed: total.failed(),
            failures: total.failures(),
            spread,
            first_new_replica: story.first_new_replica,
            scaled_out: peak >= 3 * usize::try_from(story.min).unwrap_or(0),
            scaled_in: last.is_some_and(|observed| observed.pods <= story.min),
            min: story.min,
        }
    }

    /// Whether everything went as it should.
    pub fn succeeded(&self) -> bool {
        self.failed == 0 && self.requests > 0 && self.scaled_out && self.scaled_in
    }

    /// Name and value of each line.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let (peak, spread) = self.spread.map_or(("never steady".into(), "unknown".into()), |(n, spread)| {
            (n.to_string(), format!("{spread:.1} %"))
        });
        let first =
            self.first_new_replica.map_or("never".into(), |time| format!("{:.1} s", time.as_secs_f64()));
        let back = if self.scaled_in { "yes" } else { "no" };
        vec![
            ("requests sent", self.requests.to_string()),
            ("failed", self.failed.to_string()),
            ("replicas", format!("{} → {peak}", self.min)),
            ("spread between ready replicas", spread),
            ("overload to first new replica serving", first),
            ("back to the minimum", back.into()),
        ]
    }
}

/// A story as it should go: from two replicas to eight and back.
#[cfg(test)]
pub(super) fn example() -> Story {
    let mut story = Story::new(50, 2, 10);
    for at in 1..=50 {
        let (phase, desired, ready, draining, cpu) = match at {
            1..6 => (Phase::Calm, 2, 2, 0, 6.0),
            6..12 => (Phase::Spike, 2, 2, 0, 30.0 * (at - 5) as f64),
            12..15 => (Phase::Spike, 8, 2 + 2 * (at - 12), 0, 180.0),
            15..28 => (Phase::Spike, 8, 8, 0, 48.0),
            28..43 => (Phase::Quiet, 8, 8, 0, 5.0),
            43..46 => (Phase::Quiet, 2, 2, 6, 5.0),
            _ => (Phase::Quiet, 2, 2, 0, 5.0),
        };
        let rate = if phase == Phase::Spike { 240.0 } else { 40.0 };
        let ready: BTreeSet<String> = (0..ready).map(|i| format!("shop-7d9c6b5f4-{i}x2kq")).collect();
        let share = rate as u64 / ready.len() as u64;
        story.push(Sample {
            at: Duration::from_secs(at),
            phase,
            rate,
            failed: 0,
            p50: Duration::from_micros(2_300),
            p99: Duration::from_millis(14),
            by_replica: ready.iter().map(|replica| (replica.clone(), share)).collect(),
            observed: Observed {
                desired,
                pods: ready.len() as i32 + draining,
                ready,
                draining,
                cpu_percent: Some(cpu),
                last_scaling: (at >= 12).then(|| "2 → 8: CPU at 180 % of the requests, target 50 %".into()),
            },
        });
    }
    story.first_new_replica = Some(Duration::from_millis(7_400));
    story.spread = Some((8, 1.3));
    story
}

/// A thousand requests, of which so many failed.
#[cfg(test)]
pub(super) fn thousand(failed: u64) -> Tally {
    let mut tally = Tally::default();
    tally.requests = 1000;
    tally.by_status = [(200, 1000 - failed), (503, failed)].into();
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, phase: Phase, answers: &[(&str, u64)]) -> Sample {
        let ready: BTreeSet<String> = answers.iter().map(|(replica, _)| (*replica).into()).collect();
        let pods = ready.len() as i32;
        Sample {
            at: Duration::from_secs(at),
            phase,
            rate: 0.0,
            failed: 0,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
            by_replica: answers.iter().map(|(replica, count)| ((*replica).into(), *count)).collect(),
            observed: Observed { desired: pods, ready, pods, ..Observed::default() },
        }
    }

    fn story() -> Story {
        let mut story = Story::new(50, 1, 4);
        story.push(sample(1, Phase::Calm, &[("a", 10)]));
        story.push(sample(2, Phase::Spike, &[("a", 300)]));
        story.push(sample(5, Phase::Spike, &[("a", 150), ("b", 100), ("c", 50)]));
        story.push(sample(6, Phase::Spike, &[("a", 101), ("b", 100), ("c", 99)]));
        story.push(sample(7, Phase::Spike, &[("a", 101), ("b", 100), ("c", 99)]));
        story.push(sample(9, Phase::Quiet, &[("a", 10)]));
        story
    }

    #[test]
    fn replicas_that_came_or_went_and_ones_that_do_not_serve_yet_are_noticed() {
        let mut story = Story::new(50, 1, 4);
        assert!(!story.all_serve());
        story.push(sample(1, Phase::Spike, &[("a", 10)]));
        assert!(story.all_serve() && story.other_replicas(), "the first ones");
        story.push(sample(2, Phase::Spike, &[("a", 10)]));
        assert!(story.all_serve() && !story.other_replicas());
        let mut idle = sample(3, Phase::Spike, &[("a", 10), ("b", 0)]);
        idle.by_replica.remove("b");
        story.push(idle);
        assert!(!story.all_serve() && story.other_replicas());
    }

    #[test]
    fn only_a_show_without_a_failure_that_scaled_out_and_in_succeeded() {
        let story = Story { spread: Some((3, 2.0)), ..story() };
        assert!(Summary::of(&story, &thousand(0)).succeeded());
        assert!(!Summary::of(&story, &thousand(1)).succeeded());
        assert!(
            !Summary::of(&Story { min: 2, ..story.clone() }, &thousand(0)).succeeded(),
            "three are not 3 × 2"
        );
        let mut unfinished = story;
        unfinished.samples.pop();
        assert!(!Summary::of(&unfinished, &thousand(0)).succeeded());
    }

    #[test]
    fn a_new_reason_for_scaling_is_marked_once() {
        let mut story = Story::new(50, 1, 4);
        for (at, reason) in
            [(1, Some("old")), (2, Some("old")), (3, Some("CPU is high")), (4, Some("CPU is high"))]
        {
            let mut sample = sample(at, Phase::Calm, &[]);
            sample.observed.last_scaling = reason.map(String::from);
            story.push(sample);
        }
        assert_eq!(story.marks, [Mark { at: Duration::from_secs(3), text: "CPU is high".into() }]);
    }
}
