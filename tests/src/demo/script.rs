//! When which act begins and ends, and what is sent in it.

use std::time::Duration;

use super::story::{Phase, Story};

/// What is sent in an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Requests per second.
    pub rate: u32,
    /// What each asks for.
    pub path: &'static str,
    /// The same in words.
    pub description: &'static str,
    /// The act is over by then, whatever happened.
    deadline: Duration,
}

/// How long the calm lasts.
const CALM: Duration = Duration::from_secs(6);
/// How long the same replicas must have been ready before the spike has shown what it should.
const STEADY: usize = 8;

/// What is sent in an act; nothing when it is over.
pub fn scene(phase: Phase) -> Option<Scene> {
    let seconds = Duration::from_secs;
    match phase {
        Phase::Calm => Some(Scene {
            rate: 40,
            path: "/",
            description: "40 requests/s, next to no work",
            deadline: seconds(30),
        }),
        Phase::Spike => Some(Scene {
            rate: 150,
            path: "/work?ms=2",
            description: "150 requests/s, each burning 2 ms of CPU",
            deadline: seconds(90),
        }),
        Phase::Quiet => Some(Scene {
            rate: 40,
            path: "/",
            description: "40 requests/s, next to no work",
            deadline: seconds(120),
        }),
        Phase::Over => None,
    }
}

/// The act that follows on what has happened so far: the same one, or the next.
pub fn next(phase: Phase, story: &Story) -> Phase {
    let Some(scene) = scene(phase) else { return Phase::Over };
    let Some(now) = story.now() else { return phase };
    let so_far = story.began(phase).map_or(Duration::ZERO, |began| now.at.saturating_sub(began));
    let done = match phase {
        Phase::Calm => so_far >= CALM,
        Phase::Spike => steadily_out(story),
        Phase::Quiet => now.observed.pods == story.min && so_far >= CALM,
        Phase::Over => true,
    };
    match phase {
        _ if !done && so_far < scene.deadline => phase,
        Phase::Calm => Phase::Spike,
        Phase::Spike => Phase::Quiet,
        Phase::Quiet | Phase::Over => Phase::Over,
    }
}

/// Whether at least three times the minimum has been ready for a while, and no more are wanted.
fn steadily_out(story: &Story) -> bool {
    let recent = story.samples.iter().rev().take(STEADY).filter(|sample| sample.phase == Phase::Spike);
    let out: Vec<_> = recent
        .map(|sample| &sample.observed)
        .take_while(|observed| {
            observed.ready.len() as i32 == observed.desired && observed.desired >= 3 * story.min
        })
        .collect();
    out.len() == STEADY && out.windows(2).all(|pair| matches!(pair, [a, b] if a.ready == b.ready))
}

#[cfg(test)]
mod tests {
    use super::super::story::{Observed, Sample};
    use super::*;

    fn story(samples: &[(u64, Phase, i32, i32)]) -> Story {
        let mut story = Story::new(50, 2, 8);
        for &(at, phase, desired, ready) in samples {
            story.push(Sample {
                at: Duration::from_secs(at),
                phase,
                rate: 0.0,
                failed: 0,
                p50: Duration::ZERO,
                p99: Duration::ZERO,
                by_replica: [].into(),
                observed: Observed {
                    desired,
                    ready: (0..ready).map(|i| i.to_string()).collect(),
                    pods: ready,
                    ..Observed::default()
                },
            });
        }
        story
    }

    #[test]
    fn the_calm_lasts_its_time() {
        assert_eq!(next(Phase::Calm, &story(&[(5, Phase::Calm, 2, 2)])), Phase::Calm);
        assert_eq!(next(Phase::Calm, &story(&[(6, Phase::Calm, 2, 2)])), Phase::Spike);
    }

    #[test]
    fn the_spike_ends_when_three_times_the_minimum_has_been_ready_for_a_while() {
        let mut samples = vec![(6, Phase::Calm, 2, 2)];
        samples.extend((7..14).map(|at| (at, Phase::Spike, 6, 6)));
        assert_eq!(next(Phase::Spike, &story(&samples)), Phase::Spike);
        samples.push((14, Phase::Spike, 6, 6));
        assert_eq!(next(Phase::Spike, &story(&samples)), Phase::Quiet);
        samples.push((15, Phase::Spike, 8, 6));
        assert_eq!(next(Phase::Spike, &story(&samples)), Phase::Spike, "more are wanted");
    }

    #[test]
    fn an_act_that_leads_nowhere_ends_at_its_deadline() {
        let samples = [(6, Phase::Calm, 2, 2), (95, Phase::Spike, 2, 2)];
        assert_eq!(next(Phase::Spike, &story(&samples)), Phase::Spike);
        let samples = [(6, Phase::Calm, 2, 2), (96, Phase::Spike, 2, 2)];
        assert_eq!(next(Phase::Spike, &story(&samples)), Phase::Quiet);
    }

    #[test]
    fn it_is_over_when_the_replicas_are_back_to_the_minimum() {
        let mut samples = vec![(6, Phase::Calm, 2, 2), (20, Phase::Spike, 6, 6), (30, Phase::Quiet, 2, 4)];
        assert_eq!(next(Phase::Quiet, &story(&samples)), Phase::Quiet);
        samples.push((33, Phase::Quiet, 2, 2));
        assert_eq!(next(Phase::Quiet, &story(&samples)), Phase::Over);
    }
}
