//! What is known of one request while it is under way.

use std::sync::Arc;

use super::flight::Controls;
use crate::carrier::Shared;
use crate::port::Port;
use crate::record::Record;
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
    pub(super) record: Record,
    /// How far the last attempt came.
    pub(super) stage: Stage,
    /// The client asks for a tunnel.
    pub(super) upgrade: bool,
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

impl Context {
    /// A request whose head has just arrived.
    pub(super) fn new(shared: Shared, scope: Scope) -> Self {
        scope.controls.begin();
        let record = Record::begin(scope.port.listening());
        Self { shared, scope, record, stage: Stage::Connecting, upgrade: false }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        super::logging::record(self);
    }
}
