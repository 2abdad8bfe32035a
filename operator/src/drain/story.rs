//! What happens to replicas on their way out, told once and step by step. Pure.
//!
//! Nothing is remembered from term to term. What an annotation or a deletion cost shows was told by the leader who wrote
//! it: a new one goes on from there.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::is_rolling_out;
use super::progress::Progress;
use super::situation::{Draining, Move, Replica, Situation};

/// Replicas that are named; of more, it is said how many.
const NAMES: usize = 10;

/// What was told of the replicas of a ReplicaService in this term; nothing before the first look.
#[derive(Debug, Default)]
pub(super) struct Story(Option<HashMap<String, Known>>);

/// What was told of a replica that drains.
#[derive(Debug)]
struct Known {
    name: String,
    began: Timestamp,
    told: Progress,
}

/// Why replicas were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Fewer are wanted than there are.
    ScaleIn { desired: i32, replicas: i32 },
    /// Replicas of another template serve in their place.
    Rollout,
    /// Another one serves in its place.
    Moves(Move),
    /// The ReplicaService is being deleted.
    Deletion,
    /// Nothing calls for it.
    Unasked,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begun(Why),
    /// So many proxies send nothing new there.
    Acknowledged(usize),
    Idle,
    /// So much was still in flight.
    Overdue(u64),
    Removed,
    /// Gone although something may have been in flight.
    Lost,
    Cancelled,
}

/// A step that some replicas took together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub(super) step: Step,
    /// Names, and how long ago each was chosen where that is known.
    pub(super) replicas: Vec<(String, Option<Duration>)>,
}

impl Story {
    /// What happened since the last look.
    pub(super) fn goes_on(&mut self, situation: &Situation, now: Timestamp) -> Vec<News> {
        let draining = situation.pods.iter().filter_map(|pod| Some((pod, pod.drain?)));
        let Some(known) = &mut self.0 else {
            self.0 =
                Some(draining.map(|(pod, drain)| (pod.uid.clone(), Known::adopted(pod, drain))).collect());
            return Vec::new();
        };
        let mut news = Chapter { now, news: Vec::new() };
        known.retain(|uid, known| known.stays(situation.pods.iter().find(|pod| pod.uid == *uid), &mut news));
        for (pod, drain) in draining {
            let known = known.entry(pod.uid.clone()).or_insert_with(|| {
                news.add(Step::Begun(why(pod, situation)), &pod.name, drain.began);
                Known { name: pod.name.clone(), began: drain.began, told: Progress::Begun }
            });
            known.gets_on(pod, drain, &mut news);
        }
        news.news
    }
}

impl Known {
    /// One that drained before the first look.
    fn adopted(pod: &Replica, Draining { began, .. }: Draining) -> Self {
        let told = if pod.marked { Progress::Overdue } else { Progress::Acknowledged };
        Self { name: pod.name.clone(), began, told }
    }

    /// Whether it is still on its way out, in the same drain.
    fn stays(&self, pod: Option<&Replica>, news: &mut Chapter) -> bool {
        let step = match pod.map(|pod| pod.drain) {
            Some(Some(drain)) if drain.began == self.began => return true,
            Some(_) => Step::Cancelled,
            None if self.told >= Progress::Idle => Step::Removed,
            None => Step::Lost,
        };
        news.add(step, &self.name, self.began);
        false
    }

    fn gets_on(&mut self, pod: &Replica, drain: Draining, news: &mut Chapter) {
        let Draining { began, progress, proxies } = drain;
        if self.told < Progress::Acknowledged && progress.is_heard() && proxies > 0 {
            news.add(Step::Acknowledged(proxies), &self.name, began);
        }
        match progress {
            _ if self.told >= Progress::Idle => {}
            Progress::Idle => news.add(Step::Idle, &self.name, began),
            Progress::Overdue => news.add(Step::Overdue(pod.in_flight), &self.name, began),
            Progress::Begun | Progress::Acknowledged => {}
        }
        self.told = self.told.max(progress);
    }
}

/// What happened between two looks.
struct Chapter {
    now: Timestamp,
    news: Vec<News>,
}

impl Chapter {
    /// Replicas that took the same step come together.
    fn add(&mut self, step: Step, name: &str, began: Timestamp) {
        // What cannot be read counts as long ago.
        let readable = began != Timestamp::UNIX_EPOCH;
        let took = Duration::try_from(self.now.duration_since(began)).ok().filter(|_| readable);
        let replica = (name.to_owned(), took);
        match self.news.iter_mut().find(|news| news.step == step) {
            Some(news) => news.replicas.push(replica),
            None => self.news.push(News { step, replicas: vec![replica] }),
        }
    }
}

fn why(pod: &Replica, Situation { desired, replicas, current, sets, pods, .. }: &Situation) -> Why {
    let is_old = |current: &String| is_rolling_out(current, sets, pods) && pod.set != *current;
    match (desired, pod.moves) {
        (0, _) => Why::Deletion,
        (_, Some(why)) => Why::Moves(why),
        _ if current.as_ref().is_some_and(is_old) => Why::Rollout,
        (desired, None) if desired < replicas => Why::ScaleIn { desired: *desired, replicas: *replicas },
        _ => Why::Unasked,
    }
}

impl News {
    /// In one word.
    pub fn reason(&self) -> &'static str {
        match self.step {
            Step::Begun(_) => "DrainBegun",
            Step::Acknowledged(_) => "DrainAcknowledged",
            Step::Idle => "Drained",
            Step::Overdue(_) => "DrainOverdue",
            Step::Removed => "ReplicaRemoved",
            Step::Lost => "ReplicaLost",
            Step::Cancelled => "DrainCancelled",
        }
    }

    /// Whether requests may have been lost.
    pub fn is_bad(&self) -> bool {
        matches!(self.step, Step::Overdue(_) | Step::Lost)
    }

    /// In a sentence.
    pub fn note(&self) -> String {
        let (names, after) = (self.names(), self.after());
        match self.step {
            Step::Begun(why) => format!("{names}: nothing new is to be sent there, because {why}"),
            Step::Acknowledged(1) => format!("{names}: the only proxy sends nothing new there{after}"),
            Step::Acknowledged(proxies) => {
                format!("{names}: all {proxies} proxies send nothing new there{after}")
            }
            Step::Idle => format!("{names}: nothing is in flight there any more{after}"),
            Step::Overdue(0) => format!(
                "{names}: the deregistration delay is over, and not every proxy has said that nothing is in flight there{after}"
            ),
            Step::Overdue(count) => {
                format!("{names}: the deregistration delay is over, with {count} in flight there{after}")
            }
            Step::Removed => format!("{names}: removed{after}"),
            Step::Lost => {
                format!("{names}: deleted by somebody else before nothing was in flight there{after}")
            }
            Step::Cancelled => format!("{names}: needed again, and serves{after}"),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.replicas.iter().take(NAMES).map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        match self.replicas.len().saturating_sub(NAMES) {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }

    /// Time passed for those that took longest.
    fn after(&self) -> String {
        let longest = self.replicas.iter().filter_map(|(_, took)| *took).max();
        let longest = longest.filter(|_| !matches!(self.step, Step::Begun(_)));
        longest.map(|took| format!(", {:.1} s after it was chosen", took.as_secs_f64())).unwrap_or_default()
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ScaleIn { desired, replicas } => write!(f, "{desired} of {replicas} replicas are wanted"),
            Self::Rollout => f.write_str("replicas of another template serve"),
            Self::Moves(Move::Node) => f.write_str("their node is being emptied"),
            Self::Moves(Move::Eviction) => f.write_str("somebody asked for their eviction"),
            Self::Deletion => f.write_str("the ReplicaService is being deleted"),
            Self::Unasked => f.write_str("somebody annotated it; it is taken back unless it has to go"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::situation::Set;
    use super::*;

    fn at(tenths: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + tenths * 100).unwrap()
    }

    fn pod(name: &str, drain: Option<Progress>) -> Replica {
        let drain = drain.map(|progress| Draining { began: at(0), progress, proxies: 2 });
        Replica { in_flight: 3, drain, ..Replica::ready(name, "set") }
    }

    fn situation(desired: i32, pods: Vec<Replica>) -> Situation {
        let set = Set { uid: "set".into(), created: Timestamp::UNIX_EPOCH, replicas: 3, counted: true };
        Situation { desired, replicas: 3, current: Some("set".into()), sets: vec![set], pods, unheard: false }
    }

    /// Lets one replica go through these states, a tenth of a second apart, and says what was told each time.
    fn told(story: &mut Story, states: &[Option<Progress>]) -> Vec<Vec<&'static str>> {
        let looks = states.iter().zip(1..);
        let look = |(state, tenths): (&Option<Progress>, i64)| {
            let news = story.goes_on(&situation(2, vec![pod("a", *state)]), at(tenths));
            news.iter().map(News::reason).collect()
        };
        looks.map(look).collect()
    }

    fn begun() -> Story {
        let mut story = Story::default();
        assert_eq!(story.goes_on(&situation(3, vec![pod("a", None)]), at(0)), []);
        story
    }

    #[test]
    fn each_step_is_told_once() {
        use Progress::{Acknowledged, Begun, Idle};
        let mut story = begun();
        let states = [Begun, Begun, Acknowledged, Begun, Idle, Idle].map(Some);
        let expected =
            [vec!["DrainBegun"], vec![], vec!["DrainAcknowledged"], vec![], vec!["Drained"], vec![]];
        assert_eq!(told(&mut story, &states), expected);
        let removed = story.goes_on(&situation(2, vec![]), at(12));
        assert_eq!(removed[0].note(), "a: removed, 1.2 s after it was chosen");
        assert_eq!(story.goes_on(&situation(2, vec![]), at(13)), []);
    }

    #[test]
    fn steps_that_are_taken_at_once_are_told_one_by_one() {
        let expected = vec!["DrainBegun", "DrainAcknowledged", "Drained"];
        assert_eq!(told(&mut begun(), &[Some(Progress::Idle)]), [expected]);
        let mut nobody = pod("a", Some(Progress::Idle));
        nobody.drain.as_mut().unwrap().proxies = 0;
        let news = begun().goes_on(&situation(2, vec![nobody]), at(1));
        let reasons: Vec<_> = news.iter().map(News::reason).collect();
        assert_eq!(reasons, ["DrainBegun", "Drained"], "no proxy was asked");
    }

    #[test]
    fn a_deadline_and_a_replica_that_goes_by_itself_are_warnings() {
        use Progress::{Begun, Overdue};
        let mut story = begun();
        let expected = [vec!["DrainBegun"], vec!["DrainOverdue"], vec![]];
        assert_eq!(told(&mut story, &[Some(Begun), Some(Overdue), Some(Overdue)]), expected);
        let removed = story.goes_on(&situation(2, vec![]), at(9));
        assert_eq!((removed[0].reason(), removed[0].is_bad()), ("ReplicaRemoved", false));

        let mut story = begun();
        told(&mut story, &[Some(Begun)]);
        let lost = story.goes_on(&situation(2, vec![]), at(9));
        assert_eq!((lost[0].reason(), lost[0].is_bad()), ("ReplicaLost", true));
    }

    #[test]
    fn a_drain_that_is_cancelled_and_begins_again_is_told_again() {
        use Progress::Begun;
        let mut story = begun();
        let expected = [vec!["DrainBegun"], vec!["DrainCancelled"], vec!["DrainBegun"]];
        assert_eq!(told(&mut story, &[Some(Begun), None, Some(Begun)]), expected);
        let mut again = pod("a", Some(Begun));
        again.drain.as_mut().unwrap().began = at(50);
        let news = story.goes_on(&situation(2, vec![again]), at(51));
        let reasons: Vec<_> = news.iter().map(News::reason).collect();
        assert_eq!(reasons, ["DrainCancelled", "DrainBegun"], "both were missed");
    }

    #[test]
    fn a_new_leader_goes_on_where_the_one_before_stopped() {
        use Progress::{Acknowledged, Begun, Idle};
        let mut story = Story::default();
        let expected = [vec![], vec![], vec!["Drained"]];
        assert_eq!(told(&mut story, &[Some(Begun), Some(Acknowledged), Some(Idle)]), expected);

        let mut story = Story::default();
        let marked = Replica { marked: true, ..pod("a", Some(Begun)) };
        assert_eq!(story.goes_on(&situation(2, vec![marked]), at(1)), []);
        assert_eq!(told(&mut story, &[Some(Idle)]), [[""; 0]]);
        assert_eq!(story.goes_on(&situation(2, vec![]), at(9))[0].reason(), "ReplicaRemoved");
    }

    #[test]
    fn many_replicas_that_take_a_step_together_are_one_event() {
        let mut story = begun();
        let pods = (0..100).map(|number| pod(&format!("p{number:02}"), Some(Progress::Begun))).collect();
        let news = story.goes_on(&situation(2, pods), at(1));
        assert_eq!(news.len(), 1);
        let note = news[0].note();
        assert!(note.starts_with("p00, p01, p02, p03, p04, p05, p06, p07, p08, p09 and 90 more: "), "{note}");
    }

    #[test]
    fn an_event_says_why() {
        let one = |desired, pod: Replica| {
            let mut story = begun();
            story.goes_on(&situation(desired, vec![pod]), at(1))[0].note()
        };
        let chosen = || pod("a", Some(Progress::Begun));
        let other = Replica { set: "other".into(), ..chosen() };
        let moving = |why| Replica { moves: Some(why), ..chosen() };
        for (case, expected) in [
            (one(2, chosen()), "because 2 of 3 replicas are wanted"),
            (one(0, chosen()), "because the ReplicaService is being deleted"),
            (one(3, other), "because replicas of another template serve"),
            (one(2, moving(Move::Node)), "because their node is being emptied"),
            (one(3, moving(Move::Eviction)), "because somebody asked for their eviction"),
            (one(3, chosen()), "because somebody annotated it"),
        ] {
            assert!(case.contains(expected), "{case}");
        }
    }
}
