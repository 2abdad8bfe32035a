//! Passive signs: what requests tell of a target before any check does.
//!
//! ```text
//! request ─► asked ─► answered                   both are counted; between them it waits
//!                └──► no connection ─────────►   refused: Unreachable; not in time: Silent
//! every 100 ms: many wait and nothing comes, while others of the group answer ─► Silent
//! ```
//!
//! Others are picked before a suspect, and a suspect before nobody. A passed check clears it; a silent one is cleared by
//! any answer, so that a target that only paused is back at once.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// How often is looked whether targets answer. Looks are counted, not time: while the proxy itself is held up, it looks
/// no more than it answers.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Nobody is suspected sooner.
const FEWEST_LOOKS: f64 = 5.0;
/// Nor before it has been silent for so many times as long as targets of the group take to answer on average, slow
/// requests included. Where some requests are slow, few can be so slow that only they wait at a target for all that time:
/// those would count in the average.
const TIMES_USUAL: f64 = 10.0;
/// Nor while fewer requests wait there.
const FEWEST_WAITING: u32 = 5;
/// Nor before so many answers are known.
const FEWEST_ANSWERS: f64 = 10.0;
/// What an answer weighs in the average after one more look; after 10 s it is half of what it was.
const FADING: f64 = 0.993;

/// Why others are picked before a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It does not answer: it may hang.
    Silent = 1,
    /// Its machine refuses connections.
    Unreachable = 2,
}

/// What requests tell of one target.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    /// Requests that wait for an answer's head or a connection.
    waiting: AtomicU32,
    /// Signs of life so far: answers and passed checks. Wraps around.
    answers: AtomicU32,
    doubt: AtomicU8,
    /// The signs of life that the last look saw.
    seen: AtomicU32,
    /// Looks in a row that saw no more.
    quiet: AtomicU32,
    /// Of these, the last ones in a row that saw many wait.
    silent: AtomicU32,
}

impl Signs {
    /// A request is on its way there.
    #[inline]
    pub(crate) fn ask(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those has its answer.
    #[inline]
    pub(crate) fn answer(&self) {
        self.give_up();
        self.live();
        if self.doubt.load(Ordering::Relaxed) == Doubt::Silent as u8 {
            self.doubt.store(0, Ordering::Relaxed);
        }
    }

    /// One of those waits no longer.
    #[inline]
    pub(crate) fn give_up(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A check has passed.
    pub(crate) fn trust(&self) {
        self.live();
        self.doubt.store(0, Ordering::Relaxed);
    }

    #[inline]
    fn live(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Others are picked before it from now on; whether that is new.
    pub(crate) fn suspect(&self, doubt: Doubt) -> bool {
        self.doubt.fetch_max(doubt as u8, Ordering::Relaxed) == 0
    }

    /// Whether others are picked before it.
    #[inline]
    pub(crate) fn is_suspect(&self) -> bool {
        self.doubt.load(Ordering::Relaxed) != 0
    }

    /// The signs of life so far, to be compared with later ones.
    #[inline]
    pub(crate) fn answers(&self) -> u32 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Looks, and remembers what it saw. Only one may look.
    pub(crate) fn look(&self) -> Look {
        let answers = self.answers();
        let lives = self.seen.swap(answers, Ordering::Relaxed) != answers;
        let many = self.waiting.load(Ordering::Relaxed) >= FEWEST_WAITING;
        let one_more = |looks: &AtomicU32, counts: bool| {
            let looked = if counts { looks.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
            looks.store(looked, Ordering::Relaxed);
            looked
        };
        Look { quiet: one_more(&self.quiet, !lives), silent: one_more(&self.silent, !lives && many) }
    }
}

/// What a look saw of a target, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Looks in a row without a sign of life.
    pub(crate) quiet: u32,
    /// Of these, those since when many wait.
    pub(crate) silent: u32,
}

/// Which of the targets that may be picked are silent, by what a look saw of each. Where fewer than a third of them answer,
/// what they have in common is to blame, and none of them.
pub(crate) fn silent(looks: &[Look], usual: Option<Duration>) -> impl Iterator<Item = usize> {
    let needed = usual.map(|usual| (usual.div_duration_f64(LOOK) * TIMES_USUAL).max(FEWEST_LOOKS));
    let is_long = move |looks: u32| needed.is_some_and(|needed| f64::from(looks) >= needed);
    let lively = looks.iter().filter(|look| !is_long(look.quiet)).count();
    let enough = 3 * lively >= looks.len();
    looks.iter().enumerate().filter(move |(_, look)| enough && is_long(look.silent)).map(|(index, _)| index)
}

/// How long targets of a group take to answer, on average over about the last 15 seconds with answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Answers and their sum in seconds, as at the last look.
    known: (u64, Duration),
    answers: f64,
    seconds: f64,
}

impl Pace {
    /// Takes in how many answers there were so far, and the sum of their times.
    pub(crate) fn look(&mut self, answers: u64, sum: Duration) {
        let (before, sum_before) = std::mem::replace(&mut self.known, (answers, sum));
        let more = answers.saturating_sub(before);
        if more > 0 {
            self.answers = self.answers * FADING + more as f64;
            self.seconds = self.seconds * FADING + sum.saturating_sub(sum_before).as_secs_f64();
        }
    }

    /// The average, once enough answers are known.
    pub(crate) fn usual(&self) -> Option<Duration> {
        (self.answers >= FEWEST_ANSWERS).then(|| Duration::from_secs_f64(self.seconds / self.answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent_of(looks: &[(u32, u32)], usual_ms: u64) -> Vec<usize> {
        let looks: Vec<_> =
            looks.iter().map(|(quiet, silent)| Look { quiet: *quiet, silent: *silent }).collect();
        silent(&looks, Some(Duration::from_millis(usual_ms))).collect()
    }

    #[test]
    fn a_target_is_silent_where_many_wait_in_vain_while_others_answer() {
        for (what, looks, usual_ms, expected) in [
            ("one hangs", &[(0, 0), (9, 5), (0, 0)][..], 2, &[1][..]),
            ("many wait, but not for long", &[(0, 0), (99, 4), (0, 0)], 2, &[]),
            ("hardly anybody waits", &[(0, 0), (99, 0), (0, 0)], 2, &[]),
            ("its requests take long", &[(0, 0), (9, 9), (0, 0)], 100, &[]),
            ("too long even so", &[(0, 0), (10, 10), (0, 0)], 100, &[1]),
            ("one of two", &[(9, 9), (1, 1)], 2, &[0]),
            ("two of three", &[(9, 9), (9, 9), (1, 1)], 2, &[0, 1]),
            ("three of four: something else is wrong", &[(9, 9), (9, 9), (9, 9), (1, 1)], 2, &[]),
            ("the others have nothing to answer", &[(9, 9), (99, 0)], 2, &[]),
            ("all", &[(9, 9), (9, 9)], 2, &[]),
            ("the only one", &[(9, 9)], 2, &[]),
        ] {
            assert_eq!(silent_of(looks, usual_ms), expected, "{what}");
        }
        let unknown = silent(&[Look { quiet: 99, silent: 99 }, Look { quiet: 0, silent: 0 }], None);
        assert_eq!(unknown.count(), 0, "what is usual is not known");
    }

    #[test]
    fn looks_are_counted_from_the_last_sign_of_life_and_from_when_many_wait() {
        let signs = Signs::default();
        let look = || (signs.look().quiet, signs.silent.load(Ordering::Relaxed));
        assert_eq!([look(), look()], [(1, 0), (2, 0)], "nobody waits");
        (0..FEWEST_WAITING).for_each(|_| signs.ask());
        assert_eq!([look(), look()], [(3, 1), (4, 2)]);
        signs.ask();
        signs.answer();
        assert_eq!([look(), look()], [(0, 0), (1, 1)], "one was answered");
        signs.trust();
        assert_eq!([look(), look()], [(0, 0), (1, 1)], "a check has passed");
        signs.give_up();
        assert_eq!(look(), (2, 0), "there are fewer now");
    }

    #[test]
    fn an_answer_clears_the_silent_and_a_check_clears_all() {
        for (doubt, cleared) in [(Doubt::Silent, true), (Doubt::Unreachable, false)] {
            let signs = Signs::default();
            assert!(signs.suspect(doubt) && !signs.suspect(doubt), "new once");
            signs.ask();
            signs.answer();
            assert_eq!(signs.is_suspect(), !cleared, "{doubt:?}: an answer that was under way");
            signs.trust();
            assert!(!signs.is_suspect());
        }
        let signs = Signs::default();
        signs.suspect(Doubt::Unreachable);
        signs.suspect(Doubt::Silent);
        signs.answer();
        assert!(signs.is_suspect(), "the graver doubt stays");
    }

    #[test]
    fn what_is_usual_follows_the_answers_and_outlasts_a_pause() {
        let mut pace = Pace::default();
        pace.look(9, Duration::from_millis(90));
        assert_eq!(pace.usual(), None, "too few");
        pace.look(19, Duration::from_millis(190));
        let usual = |pace: &Pace| pace.usual().unwrap().as_secs_f64();
        assert!((usual(&pace) - 0.010).abs() < 1e-4);
        for _ in 0..1_000 {
            pace.look(19, Duration::from_millis(190));
        }
        assert!((usual(&pace) - 0.010).abs() < 1e-4, "nothing new is known");
        for look in 1..=1_000 {
            pace.look(19 + look, Duration::from_millis(190) + Duration::from_secs(look));
        }
        assert!((usual(&pace) - 1.0).abs() < 0.02, "{}", usual(&pace));
    }
}
