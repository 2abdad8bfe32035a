//! Plays the Deployment controller, ReplicaSets, kubelets and proxies against the plan, in random order, each of them as
//! late as it likes. (src: pkg/controller/deployment/{rolling,sync}.go, pkg/controller/replicaset/replica_set.go)

use jiff::Timestamp;

use super::gate::Gate;
use super::plan::plan;
use super::progress::Progress;
use super::situation::{Action, Draining, Move, Phase, Replica, Set, Situation};
use Event::{Cordon, Desired, Rollout, Uncordon, Undo};

/// So many orders of events are tried for each case.
const SEEDS: u64 = 20;
/// A drain that nobody has heard of yet.
const BEGUN: Draining = Draining { began: Timestamp::UNIX_EPOCH, progress: Progress::Begun, proxies: 1 };

/// A ReplicaSet and what the Deployment controller knows of it.
struct Template {
    uid: String,
    /// Higher: made or taken up again later.
    revision: u64,
    created: i64,
    replicas: i32,
    /// As its status says.
    ready: i32,
    /// What the Deployment controller noted when it scaled last: replicas, and replicas with surge.
    noted: (i32, i32),
    /// Its replicas pass the checks of the balancers.
    good: bool,
    /// It has the gate.
    gated: bool,
    /// The decision of the Deployment controller that its ReplicaSet followed last.
    followed: u32,
}

#[allow(clippy::struct_excessive_bools, reason = "others change each of them, in any order")]
struct Pod {
    replica: Replica,
    /// The Deployment controller's decision with which it came.
    born: u32,
    containers_ready: bool,
    /// Condition `Ready`.
    ready: bool,
    /// Proxies send to it, unless it drains.
    healthy: bool,
    /// Its gate was open once.
    was_open: bool,
    /// Its ReplicaSet counts it as ready.
    is_counted: bool,
}

impl Pod {
    fn serves(&self) -> bool {
        self.healthy && !self.replica.is_draining()
    }
}

#[derive(Debug)]
enum Event {
    /// Another template; whether its replicas pass.
    Rollout(bool),
    /// Back to the template before.
    Undo,
    Desired(i32),
    /// The nodes of some replicas are emptied, and nothing starts there any more.
    Cordon,
    /// No node is emptied any more.
    Uncordon,
}

struct Cluster {
    desired: i32,
    /// The Deployment's number.
    replicas: i32,
    templates: Vec<Template>,
    /// What the operator takes for the current template; none when it sees a change that was not looked at yet.
    seen: Option<usize>,
    /// The Deployment controller has looked at the last change.
    observed: bool,
    pods: Vec<Pod>,
    made: i64,
    /// Those of the Deployment controller so far.
    decisions: u32,
    rng: fastrand::Rng,
    /// Replicas that serve, at least, from when all did; none while a template replaces another one that was on its way.
    floor: Option<i32>,
    /// A template was replaced before all its replicas were ready.
    superseded: bool,
    /// What happened, for whoever looks into a failure.
    story: Vec<String>,
}

impl Cluster {
    fn new(replicas: i32, gated: bool, seed: u64) -> Self {
        let mut cluster = Self {
            desired: replicas,
            replicas,
            templates: Vec::new(),
            seen: None,
            observed: false,
            pods: Vec::new(),
            made: 0,
            decisions: 0,
            rng: fastrand::Rng::with_seed(seed),
            floor: None,
            superseded: false,
            story: Vec::new(),
        };
        cluster.template(true, gated);
        cluster.settle("the beginning");
        cluster.floor = Some(replicas);
        cluster
    }

    fn current(&self) -> usize {
        let all = self.templates.iter().enumerate();
        all.max_by_key(|(_, template)| template.revision).map_or(0, |(at, _)| at)
    }

    fn surge(&self) -> i32 {
        (self.replicas + 3) / 4
    }

    fn template(&mut self, good: bool, gated: bool) {
        self.made += 1;
        self.templates.push(Template {
            uid: format!("set-{}", self.made),
            revision: self.made as u64,
            created: self.made,
            replicas: 0,
            ready: 0,
            noted: (self.replicas, self.replicas + self.surge()),
            good,
            gated,
            followed: 0,
        });
    }

    fn happen(&mut self, event: &Event) {
        self.story.push(format!("{event:?}"));
        let in_rollout = self.pods.iter().any(|pod| pod.replica.set != self.templates[self.current()].uid);
        match event {
            Event::Rollout(good) => self.template(*good, true),
            Event::Undo => {
                let mut order: Vec<usize> = (0..self.templates.len()).collect();
                order.sort_by_key(|at| self.templates[*at].revision);
                self.made += 1;
                let before = order[order.len() - 2];
                self.templates[before].revision = self.made as u64;
            }
            Event::Desired(desired) => {
                self.desired = *desired;
                self.floor = self.floor.map(|floor| floor.min(*desired));
                return;
            }
            Event::Cordon => {
                for pod in &mut self.pods {
                    pod.replica.moves = self.rng.bool().then_some(Move::Node);
                }
                return;
            }
            Event::Uncordon => {
                self.pods.iter_mut().for_each(|pod| pod.replica.moves = None);
                return;
            }
        }
        // Nobody changes a template within the milliseconds in which controllers are behind, and the operator hears of it
        // as soon as they do.
        self.catch_up();
        self.superseded |= in_rollout;
        (self.seen, self.observed) = (None, false);
    }

    // ── who acts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn act(&mut self) {
        match self.rng.u8(0..6) {
            0 => self.kubelet(),
            1 => self.proxies(),
            2 => self.replica_sets(),
            3 => self.deployment_controller(),
            4 => self.seen = self.observed.then(|| self.current()),
            _ => self.operator(),
        }
        self.check();
    }

    fn catch_up(&mut self) {
        for pod in &mut self.pods {
            pod.ready = pod.containers_ready && !pod.replica.gate.is_closed();
        }
        for at in 0..self.templates.len() {
            self.replica_set(at);
        }
    }

    fn kubelet(&mut self) {
        for pod in &mut self.pods {
            // Controllers take their time, but less than containers take to start.
            let mut templates = self.templates.iter().filter(|template| template.uid == pod.replica.set);
            let may_start = templates.any(|template| template.followed >= pod.born + 2);
            pod.containers_ready |= may_start && self.rng.bool();
            if self.rng.bool() {
                pod.ready = pod.containers_ready && !pod.replica.gate.is_closed();
            }
        }
    }

    fn proxies(&mut self) {
        for pod in &mut self.pods {
            let good = self.templates.iter().any(|template| template.uid == pod.replica.set && template.good);
            pod.healthy |= pod.containers_ready && good && self.rng.bool();
            if let Some(drain) = pod.replica.drain.as_mut().filter(|_| self.rng.bool()) {
                drain.progress = Progress::Idle;
            }
        }
    }

    fn replica_sets(&mut self) {
        for at in 0..self.templates.len() {
            if self.rng.bool() {
                self.replica_set(at);
            }
        }
    }

    fn replica_set(&mut self, at: usize) {
        let (uid, replicas) = (self.templates[at].uid.clone(), self.templates[at].replicas);
        let of = |pod: &Pod| pod.replica.set == uid;
        while (self.pods.iter().filter(|pod| of(pod)).count() as i32) < replicas {
            self.made += 1;
            let pod = new_pod(self.made, &uid, self.templates[at].gated, self.decisions);
            self.pods.push(pod);
        }
        while self.pods.iter().filter(|pod| of(pod)).count() as i32 > replicas {
            self.rng.shuffle(&mut self.pods);
            let order = |pod: &Pod| (!of(pod), pod.containers_ready, pod.ready, !pod.replica.marked);
            self.pods.sort_by_key(order);
            let gone = self.pods.remove(0);
            self.story.push(format!("{} is removed", gone.replica.name));
            self.is_gone(&gone);
        }
        for pod in self.pods.iter_mut().filter(|pod| of(pod)) {
            pod.is_counted = pod.ready;
        }
        self.templates[at].ready = self.ready(&uid);
        self.templates[at].followed = self.decisions;
    }

    fn is_gone(&self, pod: &Pod) {
        let Pod { replica, is_counted, healthy, .. } = pod;
        // Who replaces a template on its way lets replicas go that Kubernetes does not count as ready.
        let uncounted = self.superseded && !is_counted;
        let fine = replica.is_drained() || !healthy || uncounted;
        assert!(fine, "{} goes undrained: {:#?}", replica.name, self.story);
    }

    fn deployment_controller(&mut self) {
        let (replicas, max) = (self.replicas, self.replicas + self.surge());
        let active = |template: &&Template| template.replicas > 0;
        if self.templates.iter().filter(active).any(|template| template.noted.0 != replicas) {
            self.scale_proportionally();
        } else {
            self.roll();
        }
        self.decisions += 1;
        self.observed = true;
        let mut told = Vec::new();
        for template in &mut self.templates {
            template.noted = (replicas, max);
            told.push(format!("{}: {}, ready {}", template.uid, template.replicas, template.ready));
        }
        let told = format!("of {replicas} {}", told.join("; "));
        if self.story.last() != Some(&told) {
            self.story.push(told);
        }
    }

    fn scale_proportionally(&mut self) {
        let max = self.replicas + self.surge();
        let mut active: Vec<usize> =
            (0..self.templates.len()).filter(|at| self.templates[*at].replicas > 0).collect();
        if let [only] = active[..] {
            self.templates[only].replicas = self.replicas;
            return;
        }
        let total: i32 = self.templates.iter().map(|template| template.replicas).sum();
        let to_add = max - total;
        assert!(to_add >= 0, "nothing scales in during a rollout");
        active
            .sort_by_key(|at| std::cmp::Reverse((self.templates[*at].replicas, self.templates[*at].created)));
        let mut added = 0;
        for at in &active {
            let template = &mut self.templates[*at];
            let size = f64::from(template.replicas * max) / f64::from(template.noted.1);
            let share = (size.round() as i32 - template.replicas).min(to_add - added);
            template.replicas += share;
            added += share;
        }
        self.templates[active[0]].replicas += to_add - added;
    }

    fn roll(&mut self) {
        let current = self.current();
        let total: i32 = self.templates.iter().map(|template| template.replicas).sum();
        let new = &mut self.templates[current];
        if new.replicas > self.replicas {
            new.replicas = self.replicas;
            return;
        }
        let grow = (self.replicas + (self.replicas + 3) / 4 - total).min(self.replicas - new.replicas).max(0);
        new.replicas += grow;
        if grow > 0 {
            return;
        }
        let unavailable = new.replicas - new.ready;
        let mut spare = total - self.replicas - unavailable;
        let mut old: Vec<usize> = (0..self.templates.len()).filter(|at| *at != current).collect();
        old.sort_by_key(|at| self.templates[*at].created);
        if spare <= 0 {
            return;
        }
        for at in &old {
            let template = &mut self.templates[*at];
            let unready = spare.min(template.replicas - template.ready).max(0);
            template.replicas -= unready;
            spare -= unready;
        }
        let available: i32 = self.templates.iter().map(|template| template.ready).sum();
        let mut spare = available - self.replicas;
        for at in &old {
            let template = &mut self.templates[*at];
            let ready = spare.min(template.replicas).max(0);
            template.replicas -= ready;
            spare -= ready;
        }
    }

    fn operator(&mut self) {
        for action in self.planned() {
            self.story.push(format!("{action:?}"));
            if let Action::Scale(to) = action {
                self.replicas = to;
                (self.seen, self.observed) = (None, false);
                continue;
            }
            let Some(pod) = self.pods.iter_mut().find(|pod| action.pod() == Some(&pod.replica.name)) else {
                continue;
            };
            let replica = &mut pod.replica;
            match action {
                Action::Drain(_) => replica.drain = Some(BEGUN),
                Action::Mark(_) => replica.marked = true,
                Action::Release(_) => (replica.drain, replica.marked) = (None, false),
                Action::OpenGate(_) => {
                    replica.gate = Gate::Open;
                    pod.was_open = true;
                }
                Action::CloseGate(_) => replica.gate = Gate::Shut { shows: false },
                Action::Scale(_) => {}
            }
        }
    }

    fn situation(&self) -> Situation {
        let sets = self.templates.iter().map(|template| Set {
            uid: template.uid.clone(),
            created: Timestamp::from_second(template.created).unwrap(),
            replicas: template.replicas,
            counted: template.ready <= self.ready(&template.uid),
        });
        Situation {
            desired: self.desired,
            replicas: self.replicas,
            current: self.seen.map(|at| self.templates[at].uid.clone()),
            sets: sets.collect(),
            pods: self.pods.iter().map(|pod| self.seen(pod)).collect(),
            unheard: false,
        }
    }

    /// Now and then by a new leader, to whom no proxy has reported yet.
    fn planned(&mut self) -> Vec<Action> {
        let mut situation = self.situation();
        if self.rng.u8(..8) == 0 {
            situation.unheard = true;
            let unknown = situation.pods.iter_mut().filter(|pod| pod.gate == Gate::Waiting);
            unknown.for_each(|pod| pod.passes = false);
        }
        plan(&situation)
    }

    fn ready(&self, set: &str) -> i32 {
        self.pods.iter().filter(|pod| pod.replica.set == *set && pod.ready).count() as i32
    }

    fn seen(&self, pod: &Pod) -> Replica {
        let template = self.templates.iter().find(|template| template.uid == pod.replica.set).unwrap();
        let counted = template.ready <= self.ready(&template.uid);
        let gate = match pod.replica.gate {
            Gate::Shut { .. } => Gate::Shut { shows: !pod.ready && counted },
            gate => gate,
        };
        let passes = match gate {
            Gate::Waiting => pod.healthy,
            Gate::Shut { .. } => pod.containers_ready,
            Gate::Absent | Gate::Open => true,
        };
        let phase = match (pod.containers_ready, pod.ready) {
            (_, true) => Phase::Ready,
            (true, false) => Phase::Unready,
            (false, false) => Phase::Pending,
        };
        Replica { phase, gate, passes, ..pod.replica.clone() }
    }

    // ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────────

    fn serving(&self) -> i32 {
        self.pods.iter().filter(|pod| pod.serves()).count() as i32
    }

    fn check(&self) {
        let serving = self.serving();
        let floor = self.floor.filter(|_| !self.superseded).unwrap_or(0);
        assert!(serving >= floor, "{serving} of {floor} serve: {:#?}", self.story);
    }

    fn is_settled(&self) -> bool {
        let current = &self.templates[self.current()];
        let fine = |pod: &Pod| {
            let Replica { set, gate, marked, moves, .. } = &pod.replica;
            *set == current.uid
                && moves.is_none()
                && pod.serves()
                && pod.ready
                && !gate.is_closed()
                && !*marked
        };
        let number = (self.replicas, current.replicas, self.pods.len() as i32);
        number == (self.desired, self.desired, self.desired) && self.pods.iter().all(fine)
    }

    fn settle(&mut self, what: &str) {
        for _ in 0..20_000 {
            if self.is_settled() {
                return;
            }
            self.act();
        }
        let pods: Vec<_> = self.pods.iter().map(|pod| self.seen(pod)).collect();
        let sets: Vec<_> = self.templates.iter().map(|set| (&set.uid, set.replicas, set.ready)).collect();
        panic!("{what} does not end: {} of {}, {sets:#?} {pods:#?}", self.replicas, self.desired);
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.act();
        }
    }
}

fn new_pod(number: i64, set: &str, gated: bool, born: u32) -> Pod {
    Pod {
        born,
        replica: Replica {
            phase: Phase::Pending,
            created: Timestamp::from_second(number).unwrap(),
            gate: if gated { Gate::Waiting } else { Gate::Absent },
            passes: false,
            ..Replica::ready(&format!("{set}-{number}"), set)
        },
        containers_ready: false,
        ready: false,
        healthy: false,
        was_open: false,
        is_counted: false,
    }
}

/// Lets these things happen at random moments, and everything come to rest.
fn play(what: &str, replicas: i32, gated: bool, events: &[Event]) {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(replicas, gated, seed);
        for event in events {
            let steps = cluster.rng.usize(0..120);
            cluster.run(steps);
            cluster.happen(event);
        }
        cluster.settle(&format!("{what}, {replicas} replicas, seed {seed}"));
    }
}

#[test]
fn a_rollout_replaces_every_replica_after_it_was_drained() {
    for replicas in 1..=9 {
        play("a rollout", replicas, true, &[Rollout(true)]);
    }
}

#[test]
fn replicas_of_a_template_without_gates_are_drained_as_well() {
    for replicas in 1..=9 {
        play("the first rollout with gates", replicas, false, &[Rollout(true)]);
    }
}

#[test]
fn the_number_may_change_during_a_rollout() {
    for replicas in [1, 3, 4, 8] {
        play("scaling out", replicas, true, &[Rollout(true), Desired(replicas * 2 + 1)]);
        play("scaling in", replicas, true, &[Rollout(true), Desired(1)]);
        play("both", replicas, true, &[Desired(replicas + 3), Rollout(true), Desired(2), Desired(5)]);
    }
}

#[test]
fn scaling_in_drains_whoever_goes() {
    for replicas in 2..=9 {
        play("scaling in", replicas, true, &[Desired(1)]);
        play("in and out", replicas, true, &[Desired(1), Desired(replicas + 2), Desired(2)]);
        play("in before a rollout", replicas, true, &[Desired(1), Rollout(true)]);
    }
}

#[test]
fn a_rollout_that_another_one_replaces_or_that_is_taken_back_converges() {
    for replicas in [1, 2, 4, 9] {
        play("two rollouts", replicas, true, &[Rollout(true), Rollout(true)]);
        play("there and back", replicas, true, &[Rollout(true), Undo]);
        play("back and forth", replicas, true, &[Rollout(true), Undo, Undo, Undo]);
        play("three at once", replicas, true, &[Rollout(true), Rollout(false), Rollout(true)]);
        play("back with another number", replicas, true, &[Rollout(true), Desired(6), Undo]);
    }
}

#[test]
fn nodes_that_are_emptied_lose_their_replicas_only_once_others_serve() {
    for replicas in 1..=9 {
        play("a node drain", replicas, true, &[Cordon]);
        play("one after the other", replicas, true, &[Cordon, Cordon, Cordon]);
        play("there and back", replicas, true, &[Cordon, Uncordon]);
        play("in between", replicas, true, &[Cordon, Desired(replicas + 2), Cordon, Desired(1)]);
        play("before a rollout", replicas, true, &[Cordon, Rollout(true)]);
        play("during a rollout", replicas, true, &[Rollout(true), Cordon, Uncordon, Cordon]);
    }
}

#[test]
fn replicas_that_never_pass_leave_the_old_ones_serving_until_the_template_is_taken_back() {
    for (replicas, seed) in
        [1, 2, 4, 9].into_iter().flat_map(|replicas| (0..50).map(move |seed| (replicas, seed)))
    {
        let mut cluster = Cluster::new(replicas, true, seed);
        cluster.happen(&Rollout(false));
        cluster.run(3_000);
        let old = cluster.templates[0].uid.clone();
        let old = || cluster.pods.iter().filter(|pod| pod.replica.set == old);
        assert_eq!(old().filter(|pod| pod.serves() && pod.ready).count() as i32, replicas);
        let new_are_closed = cluster.pods.iter().filter(|pod| !pod.healthy).all(|pod| !pod.was_open);
        assert!(new_are_closed && cluster.pods.len() as i32 > replicas, "seed {seed}");
        cluster.happen(&Undo);
        cluster.settle("taking it back");
    }
}
