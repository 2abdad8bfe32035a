//! What is planned with: where a ReplicaService stands, and the steps that can be taken. Pure.

use jiff::Timestamp;

use super::gate::Gate;
use super::progress::Progress;

/// How far a replica came, in the order in which a ReplicaSet removes them (src: pkg/controller/controller_utils.go,
/// ActivePodsWithRanks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not on a node.
    Unassigned,
    /// On a node, not running.
    Pending,
    /// Running, not ready.
    Unready,
    /// Ready.
    Ready,
}

/// A replica that nobody deleted yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Name of its pod.
    pub name: String,
    /// UID of its pod.
    pub uid: String,
    /// UID of its ReplicaSet.
    pub set: String,
    /// Zone of its node, empty when unknown.
    pub zone: String,
    /// How far it came.
    pub phase: Phase,
    /// In flight at all proxies.
    pub in_flight: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Its readiness gate.
    pub gate: Gate,
    /// It serves, or would if it did not drain: its gate may open.
    pub passes: bool,
    /// Its drain, while it is annotated as draining.
    pub drain: Option<Draining>,
    /// Its ReplicaSet removes it first.
    pub marked: bool,
    /// Why it must not stay where it is, if so: another one replaces it first.
    pub moves: Option<Move>,
}

/// Why a replica must not stay where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Somebody empties its node.
    Node,
    /// Somebody asked for its eviction.
    Eviction,
}

/// A drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// When the replica was chosen, as it is annotated. By whatever clock, or hand: nothing is decided by it.
    pub began: Timestamp,
    /// How far it came.
    pub progress: Progress,
    /// Proxies that have a say.
    pub proxies: usize,
}

#[cfg(test)]
impl Replica {
    /// One that is ready and serves, of ReplicaSet `set`.
    pub(super) fn ready(name: &str, set: &str) -> Self {
        Self {
            name: name.into(),
            uid: format!("uid-{name}"),
            set: set.into(),
            zone: String::new(),
            phase: Phase::Ready,
            in_flight: 0,
            created: Timestamp::UNIX_EPOCH,
            gate: Gate::Open,
            passes: true,
            drain: None,
            marked: false,
            moves: None,
        }
    }
}

impl Replica {
    /// It is on its way out: nothing new is sent there.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Requests are sent there, for certain.
    pub(super) fn serves(&self) -> bool {
        self.may_serve() && (self.phase == Phase::Ready || self.gate.is_closed())
    }

    /// Requests may be sent there: its gate opened a moment ago, for instance, and its kubelet is on the way.
    pub(super) fn may_serve(&self) -> bool {
        self.passes && !self.is_draining()
    }

    /// Nothing is in flight there any more, or it was given its time.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some_and(|drain| drain.progress >= Progress::Idle)
    }

    /// Drained, and the first that its ReplicaSet removes.
    pub(super) fn can_go(&self) -> bool {
        let last = matches!(self.gate, Gate::Absent | Gate::Waiting | Gate::Shut { shows: true });
        self.is_drained() && self.marked && last
    }
}

/// The replicas of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// UID of the ReplicaSet.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// How many the ReplicaSet is told to run, and does if it can.
    pub replicas: i32,
    /// It counts no more of them as ready than are.
    pub counted: bool,
}

impl Set {
    /// How many of these replicas it is about to remove.
    pub(super) fn extra(&self, pods: &[Replica]) -> usize {
        let ours = pods.iter().filter(|pod| pod.set == self.uid).count();
        ours.saturating_sub(usize::try_from(self.replicas).unwrap_or_default())
    }

    /// How many are still to come.
    pub(super) fn missing(&self, pods: &[Replica]) -> usize {
        let ours = pods.iter().filter(|pod| pod.set == self.uid).count();
        usize::try_from(self.replicas).unwrap_or_default().saturating_sub(ours)
    }
}

/// Where a ReplicaService stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// How many replicas there should be.
    pub desired: i32,
    /// How many the Deployment is told to run.
    pub replicas: i32,
    /// UID of the ReplicaSet of the Deployment's template; none while a change of the Deployment was not looked at.
    pub current: Option<String>,
    /// Those that run replicas, or are told to.
    pub sets: Vec<Set>,
    /// Replicas that nobody deleted yet.
    pub pods: Vec<Replica>,
    /// A load balancer that forwards here has no live proxy, though not for long: as after a change of leader, nobody knows
    /// which replicas pass.
    pub unheard: bool,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing new is sent to this pod.
    Drain(String),
    /// This pod serves (again).
    Release(String),
    /// The ReplicaSet removes this pod before others that are ready.
    Mark(String),
    /// This pod is not ready any more: it is removed before others.
    CloseGate(String),
    /// This pod is ready while its containers are.
    OpenGate(String),
    /// The Deployment runs so many.
    Scale(i32),
}

/// What an action does, whatever it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ActionKind {
    /// [`Action::Drain`].
    Drain,
    /// [`Action::Release`].
    Release,
    /// [`Action::Mark`].
    Mark,
    /// [`Action::CloseGate`].
    CloseGate,
    /// [`Action::OpenGate`].
    OpenGate,
    /// [`Action::Scale`].
    Scale,
}

impl Action {
    /// What it does.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Drain(_) => ActionKind::Drain,
            Self::Release(_) => ActionKind::Release,
            Self::Mark(_) => ActionKind::Mark,
            Self::CloseGate(_) => ActionKind::CloseGate,
            Self::OpenGate(_) => ActionKind::OpenGate,
            Self::Scale(_) => ActionKind::Scale,
        }
    }

    /// The pod that it changes.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Drain(name)
            | Self::Release(name)
            | Self::Mark(name)
            | Self::CloseGate(name)
            | Self::OpenGate(name) => Some(name),
            Self::Scale(_) => None,
        }
    }
}
