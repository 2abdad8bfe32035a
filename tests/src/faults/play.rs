//! Many runs of many cases: side by side where they can be, one after the other where they cannot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::cases::{Case, Reach};
use super::run::{Run, judge, run};
use super::stage::{Extent, Stage};
use super::table::{HEAD, line};
use crate::cluster::{Namespace, alone, with_namespace};

/// What is still to be played, and what came of the rest.
pub struct Play {
    extent: Extent,
    waiting: Mutex<VecDeque<&'static Case>>,
    played: Mutex<Vec<(&'static Case, Run)>>,
}

impl Play {
    /// Each of `cases` so often, in turns: what is broken off has played all of them about as often.
    pub fn new(cases: &[&'static Case], runs: usize, extent: Extent) -> Self {
        let waiting = std::iter::repeat_n(cases, runs).flatten().copied().collect();
        Self { extent, waiting: Mutex::new(waiting), played: Mutex::default() }
    }

    /// Plays them all: up to `lanes` at once of those that need only objects of their own, then the others.
    ///
    /// # Errors
    /// When a fault cannot be made, or all is not well again in time. What was played until then is in [`Self::table`].
    pub async fn all(&self, lanes: usize) -> Result<()> {
        let lane = || with_namespace("faults", async |ns| self.lane(ns, Reach::Namespace).await);
        let lanes = if self.has(Reach::Namespace) { lanes } else { 0 };
        // None is broken off by another's failure: each puts back what it stopped, and removes its namespace.
        let played = futures::future::join_all((0..lanes).map(|_| lane())).await;
        played.into_iter().collect::<Result<()>>()?;
        if self.has(Reach::Cluster) {
            alone("faults", async |ns| self.lane(ns, Reach::Cluster).await).await?;
        }
        Ok(())
    }

    async fn lane(&self, ns: &Namespace, reach: Reach) -> Result<()> {
        let stage = Stage::set(ns, self.extent).await?;
        while let Some(case) = self.next(reach) {
            let run = run(case, &stage).await.with_context(|| case.name)?;
            println!("{}: {run}", case.name);
            self.played.lock().unwrap_or_else(PoisonError::into_inner).push((case, run));
        }
        Ok(())
    }

    fn has(&self, reach: Reach) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|case| case.reach == reach)
    }

    fn next(&self, reach: Reach) -> Option<&'static Case> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|case| case.reach == reach)?;
        waiting.remove(index)
    }

    /// What was played, as a Markdown table.
    pub fn table(&self) -> String {
        let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
        for (case, run) in self.played.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            runs.entry(case.name).or_default().push(run.clone());
        }
        let lines = runs.iter().map(|(name, runs)| line(name, runs));
        std::iter::once(HEAD.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
    }

    /// The runs that did not keep their promise, and why.
    pub fn broken_promises(&self) -> Vec<anyhow::Error> {
        let played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
        played.iter().filter_map(|(case, run)| judge(case, run).err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::faults::cases::Promise;
    use crate::faults::steady::Traffic;

    const fn case(name: &'static str, reach: Reach) -> Case {
        let (traffic, promise) = (Traffic::Everything, Promise::NothingFails);
        Case { name, reach, traffic, promise, fault: |_, _| async { Ok(()) }.boxed_local() }
    }

    static OWN: Case = case("own", Reach::Namespace);
    static OTHER: Case = case("other", Reach::Namespace);
    static WHOLE: Case = case("whole", Reach::Cluster);

    #[test]
    fn cases_are_played_in_turns_and_those_that_need_the_cluster_apart() {
        let play = Play::new(&[&OWN, &WHOLE, &OTHER], 2, Extent::BRIEF);
        let order = |reach| std::iter::from_fn(|| play.next(reach)).map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(order(Reach::Namespace), ["own", "other", "own", "other"]);
        assert!(!play.has(Reach::Namespace) && play.has(Reach::Cluster));
        assert_eq!(order(Reach::Cluster), ["whole", "whole"]);
    }

    #[test]
    fn what_was_played_is_summed_up_and_judged() {
        let play = Play::new(&[], 1, Extent::BRIEF);
        let lost = Run { requests: 10, failures: [("GET: reset".to_owned(), 1)].into(), ..Run::default() };
        play.played.lock().unwrap().extend([(&OWN, Run::default()), (&WHOLE, lost), (&OWN, Run::default())]);
        let table = play.table();
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert!(lines[0].starts_with("| own | 2 |") && lines[1].starts_with("| whole | 1 |"), "{table}");
        assert_eq!(play.broken_promises().len(), 1);
    }
}
