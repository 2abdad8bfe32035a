//! What is known of one request while it is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::flight::Controls;
use crate::errors::Reason;
use crate::group::{Endpoint, Group};
use crate::listeners::{Listening, Port};
use crate::metrics::Present;
use crate::pick::Picked;
use crate::stream::Connection;

tokio::task_local! {
    static SCOPE: Scope;
}

/// Where a request came in.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) port: Arc<Port>,
    pub(super) connection: Arc<Connection>,
    pub(super) controls: Arc<Controls>,
}

impl Scope {
    pub(super) fn new(port: Arc<Port>, connection: Arc<Connection>) -> Self {
        Self { port, connection, controls: Arc::default() }
    }

    /// The scope of the request whose hooks run now. Pingora runs hooks in a flight only, and each flight enters its scope.
    pub(super) fn current() -> Self {
        SCOPE.with(Clone::clone)
    }

    /// Runs a request in this scope.
    pub(super) fn enter<F: Future>(self, request: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, request)
    }
}

/// A request under way. When it is dropped, however that comes about, the request is recorded.
pub(super) struct Context {
    pub(super) shared: Shared,
    pub(super) scope: Scope,
    /// Rules and settings as they were when the request began.
    pub(super) listening: Arc<Listening>,
    pub(super) began: Instant,
    /// What the access log wants to know, if it is on.
    pub(super) described: Option<Box<Described>>,
    /// Priority of the rule that matched.
    pub(super) rule: Option<u32>,
    /// Where it is forwarded to.
    pub(super) group: Option<Arc<Group>>,
    /// Targets that were tried in vain.
    pub(super) tried: Vec<Arc<Endpoint>>,
    /// The target it is at.
    pub(super) picked: Option<Picked>,
    /// Attempts begun.
    pub(super) attempts: u32,
    /// When the last attempt began.
    pub(super) attempt_began: Option<Instant>,
    /// From there to the head of its answer.
    pub(super) latency: Option<Duration>,
    /// How far the last attempt came.
    pub(super) stage: Stage,
    /// The client asks for a tunnel.
    pub(super) upgrade: bool,
    /// Status of the answer, from the target or our own.
    pub(super) status: Option<u16>,
    /// Why no target answered, or not to the end.
    pub(super) reason: Option<Reason>,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) recorded: bool,
    _in_flight: Present,
}

/// How far an attempt at a target came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no connection yet.
    Connecting,
    /// There is one, and no answer yet.
    Connected,
    /// A part of the answer has arrived, be it an informational one.
    Answered,
}

/// What the access log wants to know of a request's head.
pub(super) struct Described {
    pub(super) time: jiff::Timestamp,
    pub(super) protocol: &'static str,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) user_agent: Option<String>,
}

impl Context {
    /// A request whose head has just arrived.
    pub(super) fn new(shared: Shared, scope: Scope) -> Self {
        scope.controls.begin();
        let listening = scope.port.listening();
        let in_flight = Present::count(&listening.metrics.in_flight);
        Self {
            shared,
            scope,
            listening,
            began: Instant::now(),
            described: None,
            rule: None,
            group: None,
            tried: Vec::new(),
            picked: None,
            attempts: 0,
            attempt_began: None,
            latency: None,
            stage: Stage::Connecting,
            upgrade: false,
            status: None,
            reason: None,
            received_bytes: 0,
            sent_bytes: 0,
            recorded: false,
            _in_flight: in_flight,
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        super::logging::record(self);
    }
}
