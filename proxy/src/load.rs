//! What this proxy sees of its targets, told to the operator each second, and at once when it decides a drain.

use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_proxy_api::report::{GroupReport, Report, TargetReport};

use crate::group::{Endpoint, Group};
use crate::in_force::Core;

/// Every so many reports, one has everything: whatever the operator forgot, it soon knows again.
const FULL_EVERY: u32 = 10;

/// Makes the reports of one stream. Sparse: what did not change since the stream's previous report is left out of most of
/// them, but a draining target is in every one.
#[derive(Debug)]
pub struct Sampler {
    core: Arc<Core>,
    /// Reports until the next one that has everything.
    until_full: u32,
    targets: HashMap<(String, String), TargetReport>,
    groups: HashMap<String, GroupReport>,
    drains: Vec<Drain>,
}

/// A target that drains.
#[derive(Debug)]
struct Drain {
    endpoint: Arc<Endpoint>,
    /// A report has said that nothing is in flight there.
    told: bool,
}

impl Drain {
    fn of(&self, endpoint: &Endpoint) -> bool {
        Arc::ptr_eq(&self.endpoint.cell, &endpoint.cell)
    }

    fn is_over(&self) -> bool {
        self.endpoint.cell.counts().in_flight == 0
    }
}

impl Sampler {
    /// For a new stream: the first report has everything.
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            until_full: FULL_EVERY,
            targets: HashMap::new(),
            groups: HashMap::new(),
            drains: Vec::new(),
        }
    }

    /// Looks for targets that drain in the version in force. True when one has just begun to: somebody waits for a report
    /// that says so.
    pub fn find_drains(&mut self) -> bool {
        let before = std::mem::take(&mut self.drains);
        let mut begun = false;
        for endpoint in self.core.groups().iter().flat_map(|group| group.endpoints()) {
            if endpoint.cell.draining() {
                let known = before.iter().find(|drain| drain.of(&endpoint));
                begun |= known.is_none();
                self.drains.push(Drain { told: known.is_some_and(|drain| drain.told), endpoint });
            }
        }
        begun
    }

    /// Whether something is in flight at a target that drains, as far as reports have said.
    pub fn awaits_drains(&self) -> bool {
        self.drains.iter().any(|drain| !drain.told)
    }

    /// Whether the last of what was in flight at a target that drains has ended, and no report has said so.
    pub fn has_drained(&self) -> bool {
        self.drains.iter().any(|drain| !drain.told && drain.is_over())
    }

    /// Samples. Names the version that was in force before, so that it can be relied on: at a target that drains in that
    /// version, nothing is in flight that is not counted here.
    pub fn sample(&mut self) -> Report {
        let version = self.core.table().version;
        for drain in &mut self.drains {
            drain.told |= drain.is_over();
        }
        let groups = self.core.groups();
        let full = self.until_full == 0;
        self.until_full = if full { FULL_EVERY - 1 } else { self.until_full - 1 };
        let target_groups = self.changed_groups(&groups, full);
        let targets = self.changed_targets(&groups, full);
        Report { version, targets, target_groups }
    }

    fn changed_groups(&mut self, groups: &[Arc<Group>], full: bool) -> Vec<GroupReport> {
        let now: Vec<_> = groups.iter().map(|group| group_report(group)).collect();
        let changed = now
            .iter()
            .filter(|report| full || self.groups.get(&report.name) != Some(report))
            .cloned()
            .collect();
        self.groups = now.into_iter().map(|report| (report.name.clone(), report)).collect();
        changed
    }

    fn changed_targets(&mut self, groups: &[Arc<Group>], full: bool) -> Vec<TargetReport> {
        let mut previous = std::mem::take(&mut self.targets);
        let mut changed = Vec::new();
        for group in groups {
            for endpoint in group.endpoints() {
                let report = target_report(group, &endpoint);
                let key = (report.target_group.clone(), report.id.clone());
                let changed_since = previous.remove(&key).as_ref() != Some(&report);
                if full || changed_since || endpoint.cell.draining() {
                    changed.push(report.clone());
                }
                self.targets.insert(key, report);
            }
        }
        // Whoever is forgotten has nothing in flight; if the last report said otherwise, this one takes it back.
        let busy = previous.into_values().filter(|report| report.in_flight > 0);
        changed.extend(busy.map(|report| TargetReport { in_flight: 0, ..report }));
        changed
    }
}

fn group_report(group: &Group) -> GroupReport {
    let stats = group.stats();
    GroupReport {
        name: group.name().to_owned(),
        requests: stats.requests(),
        no_target: stats.no_target(),
        latency: stats.latency(),
    }
}

fn target_report(group: &Group, endpoint: &Endpoint) -> TargetReport {
    let counts = endpoint.cell.counts();
    let verdict = endpoint.cell.verdict();
    TargetReport {
        target_group: group.name().to_owned(),
        id: endpoint.target.id.clone(),
        in_flight: counts.in_flight,
        completed: counts.completed,
        failed: counts.failed,
        health: endpoint.cell.health(),
        reason: verdict.reason.to_owned(),
        description: verdict.description,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_proxy_api::report::Health;
    use evenkeel_proxy_api::snapshot::Snapshot;
    use tokio::time::Instant;

    use super::*;
    use crate::cells::Verdict;
    use crate::pick::{Outcome, Picked, pick};

    fn apply(core: &Core, yaml: &str) {
        let snapshot: Snapshot = serde_saphyr::from_str(yaml).unwrap();
        assert!(core.apply(&snapshot, Instant::now()).is_empty());
        for group in core.groups() {
            for endpoint in group.current_endpoints() {
                group.set_health(&endpoint.cell, Health::Healthy, Verdict::default());
            }
        }
    }

    fn pick_one(core: &Core) -> Picked {
        pick(&core.groups()[0], &[]).unwrap()
    }

    /// Target and what is in flight there.
    fn in_flight(report: &Report) -> Vec<(&str, u32)> {
        report.targets.iter().map(|target| (target.id.as_str(), target.in_flight)).collect()
    }

    const TWO: &str = "{version: {epoch: 1, counter: 1}, targetGroups: {api: {targets: [
        {id: a, address: 10.0.0.1, port: 80}, {id: b, address: 10.0.0.2, port: 80}]}}}";
    const DRAINING: &str = "{version: {epoch: 1, counter: 2}, targetGroups: {api: {targets: [
        {id: a, address: 10.0.0.1, port: 80, drain: 300s}, {id: b, address: 10.0.0.2, port: 80}]}}}";
    const ONE: &str = "{version: {epoch: 1, counter: 3}, targetGroups: {api: {targets: [
        {id: b, address: 10.0.0.2, port: 80}]}}}";

    #[test]
    fn the_first_report_has_everything_and_the_next_only_what_changed() {
        let core = Arc::new(Core::default());
        apply(&core, TWO);
        let mut sampler = Sampler::new(Arc::clone(&core));
        let first = sampler.sample();
        assert_eq!((first.version.counter, in_flight(&first)), (1, vec![("a", 0), ("b", 0)]));
        assert_eq!(first.target_groups.len(), 1);
        let quiet = sampler.sample();
        assert!(quiet.targets.is_empty() && quiet.target_groups.is_empty());

        let picked = pick_one(&core);
        assert_eq!(in_flight(&sampler.sample()), [("a", 1)]);
        picked.finish(Outcome::Failed, Some(Duration::from_millis(3)));
        let report = sampler.sample();
        assert_eq!((report.targets[0].completed, report.targets[0].failed), (1, 1));
        let group = &report.target_groups[0];
        assert_eq!((group.requests, group.no_target, group.latency[2]), (1, 0, 1));
    }

    #[test]
    fn now_and_then_a_report_has_everything_again() {
        let core = Arc::new(Core::default());
        apply(&core, TWO);
        let mut sampler = Sampler::new(Arc::clone(&core));
        let reports: Vec<Report> = (0..=2 * FULL_EVERY + 2).map(|_| sampler.sample()).collect();
        let full: Vec<usize> =
            (0..).zip(&reports).filter(|(_, report)| report.targets.len() == 2).map(|(i, _)| i).collect();
        assert_eq!(full, [0, 10, 20], "and the first one");
        assert!(full.iter().all(|index| reports[*index].target_groups.len() == 1));
    }

    #[test]
    fn a_draining_target_is_in_every_report() {
        let core = Arc::new(Core::default());
        apply(&core, TWO);
        let mut sampler = Sampler::new(Arc::clone(&core));
        let picked = pick_one(&core);
        sampler.sample();
        apply(&core, DRAINING);
        for _ in 0..3 {
            assert_eq!(in_flight(&sampler.sample()), [("a", 1)]);
        }
        drop(picked);
        assert_eq!(in_flight(&sampler.sample()), [("a", 0)]);
        assert_eq!(in_flight(&sampler.sample()), [("a", 0)]);
    }

    #[test]
    fn the_end_of_a_drain_is_news_until_a_report_has_it() {
        let core = Arc::new(Core::default());
        apply(&core, TWO);
        let mut sampler = Sampler::new(Arc::clone(&core));
        let picked = pick_one(&core);
        assert!(!sampler.find_drains() && !sampler.awaits_drains(), "nothing drains");
        apply(&core, DRAINING);
        assert!(sampler.find_drains(), "it has begun");
        assert!(!sampler.find_drains(), "it is known");
        sampler.sample();
        assert!(sampler.awaits_drains() && !sampler.has_drained());
        drop(picked);
        assert!(sampler.has_drained());
        sampler.sample();
        assert!(!sampler.has_drained() && !sampler.awaits_drains(), "it was told");
        assert!(
            !sampler.find_drains() && !sampler.awaits_drains(),
            "another version changes nothing of that"
        );
        apply(&core, ONE);
        assert!(!sampler.find_drains() && !sampler.awaits_drains());
    }

    #[test]
    fn a_target_that_is_gone_is_reported_until_nothing_is_in_flight() {
        let core = Arc::new(Core::default());
        apply(&core, TWO);
        let mut sampler = Sampler::new(Arc::clone(&core));
        let picked = pick_one(&core);
        sampler.sample();
        apply(&core, ONE);
        assert_eq!(in_flight(&sampler.sample()), [("a", 1)]);
        drop(picked);
        core.sweep(Instant::now());
        assert_eq!(in_flight(&sampler.sample()), [("a", 0)]);
        assert!(sampler.sample().targets.is_empty());
    }

    #[test]
    fn requests_without_a_target_are_counted() {
        let core = Arc::new(Core::default());
        apply(&core, "{targetGroups: {api: {targets: []}}}");
        let mut sampler = Sampler::new(Arc::clone(&core));
        assert!(pick(&core.groups()[0], &[]).is_err());
        let report = sampler.sample();
        assert_eq!((report.target_groups[0].requests, report.target_groups[0].no_target), (1, 1));
    }
}
