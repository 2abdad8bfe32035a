//! When an authority is followed by another, step by step. No I/O, no clock.
//!
//! ```text
//! Settled ──publish──► Published ──promote──► Promoted ──retire──► Settled
//! one is trusted       both are trusted,      both are trusted,
//! and signs            the old one signs      the new one signs
//! ```

use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::EncodeLabelValue;

/// An authority is followed by another this long before it expires.
const RENEWAL: SignedDuration = SignedDuration::from_hours(365 * 24);

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Phase {
    /// There is one authority.
    Settled,
    /// The next one is made known to the proxies, and signs nothing yet.
    Published,
    /// The next one has become the one that signs; the former is still trusted.
    Promoted,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one look at the Secret to the next.
    pub look: Duration,
    /// What each phase lasts at least: proxies that are starting have mounted a bundle, and operators that led before
    /// have noticed that they do not.
    pub settle: Duration,
    /// Proxies that have not said by then that they trust the next authority are told of.
    pub remind: Duration,
    /// They are waited for no longer than this.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(10),
            settle: Duration::from_secs(60),
            remind: Duration::from_secs(5 * 60),
            patience: Duration::from_secs(60 * 60),
        }
    }
}

/// What is decided upon.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How far it has come.
    pub phase: Phase,
    /// How long this leader has seen the phase.
    pub lasts: Duration,
    /// Until the authority that signs expires; negative when it has.
    pub left: SignedDuration,
    /// Somebody asks for another authority.
    pub wish: bool,
    /// Live proxies that have not said that they trust the next authority.
    pub awaited: usize,
}

/// Why there is to be another authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The one that signs expires within a year.
    Age,
    /// Somebody asked.
    Wish,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Make the next authority, and publish it.
    Publish(Cause),
    /// Say which proxies do not trust the next one.
    Remind,
    /// Let the next one sign.
    Promote,
    /// Let nobody trust the former one any more.
    Retire,
}

/// What is done now. A wish in the middle of a rotation is granted after it: what it asks to be rid of may be the next
/// authority, too.
pub fn decide(facts: &Facts, pace: &Pace) -> Action {
    let Facts { phase, lasts, left, wish, awaited } = *facts;
    match phase {
        Phase::Settled if wish => Action::Publish(Cause::Wish),
        Phase::Settled if left < RENEWAL => Action::Publish(Cause::Age),
        Phase::Published if lasts >= pace.patience => Action::Promote,
        // Towards an authority that has expired no proxy can say anything any more.
        Phase::Published if lasts >= pace.settle && (awaited == 0 || left.is_negative()) => Action::Promote,
        Phase::Published if awaited > 0 && lasts >= pace.remind => Action::Remind,
        Phase::Promoted if lasts >= pace.settle => Action::Retire,
        Phase::Settled | Phase::Published | Phase::Promoted => Action::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn facts(phase: Phase, minutes: u64, awaited: usize) -> Facts {
        Facts { phase, lasts: Duration::from_secs(60 * minutes), left: DAY * 3000, wish: false, awaited }
    }

    fn check(case: &str, facts: Facts, expected: Action) {
        assert_eq!(decide(&facts, &Pace::default()), expected, "{case}: {facts:?}");
    }

    #[test]
    fn a_rotation_begins_with_age_or_with_a_wish() {
        let settled = facts(Phase::Settled, 9_999, 0);
        check("young", settled, Action::Keep);
        check("proxies that are away change nothing", Facts { awaited: 3, ..settled }, Action::Keep);
        check("a day to go", Facts { left: DAY * 366, ..settled }, Action::Keep);
        check("a year is left", Facts { left: DAY * 364, ..settled }, Action::Publish(Cause::Age));
        check("it has expired", Facts { left: -DAY, ..settled }, Action::Publish(Cause::Age));
        check("asked for", Facts { wish: true, ..settled }, Action::Publish(Cause::Wish));
        let at_once = Facts { wish: true, lasts: Duration::ZERO, ..settled };
        check("asked for, by a new leader", at_once, Action::Publish(Cause::Wish));
    }

    #[test]
    fn the_next_signs_once_all_live_proxies_trust_it_or_after_an_hour() {
        for (case, minutes, awaited, expected) in [
            ("a proxy may be starting with the bundle before", 0, 0, Action::Keep),
            ("all trust it", 1, 0, Action::Promote),
            ("one does not, yet", 1, 1, Action::Keep),
            ("one still does not", 5, 1, Action::Remind),
            ("one still does not", 59, 1, Action::Remind),
            ("one never will", 60, 1, Action::Promote),
        ] {
            check(case, facts(Phase::Published, minutes, awaited), expected);
        }
        let expired = Facts { left: -DAY, ..facts(Phase::Published, 1, 1) };
        check("nobody can say anything", expired, Action::Promote);
    }

    #[test]
    fn the_former_is_retired_after_a_minute_whoever_is_away() {
        for (minutes, awaited, expected) in
            [(0, 0, Action::Keep), (1, 0, Action::Retire), (1, 7, Action::Retire)]
        {
            check("promoted", facts(Phase::Promoted, minutes, awaited), expected);
        }
    }

    #[test]
    fn a_wish_or_age_in_the_middle_of_a_rotation_waits_for_its_end() {
        for phase in [Phase::Published, Phase::Promoted] {
            let middle = Facts { wish: true, left: -DAY, ..facts(phase, 0, 1) };
            check("in the middle", middle, Action::Keep);
        }
    }
}
