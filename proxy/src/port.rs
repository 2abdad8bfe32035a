//! One open port.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::admission::Admission;
use crate::metrics::ListenerMetrics;
use crate::table::Listener;

/// An open port: what listens there now, and how far its end has come.
#[derive(Debug)]
pub struct Port {
    /// What it is bound to.
    pub address: SocketAddr,
    listening: ArcSwap<Listening>,
    /// Who is there.
    pub(crate) admission: Arc<Admission>,
    leaving: watch::Sender<bool>,
    /// Never looked at, so that each of its clones still has the change to true before it.
    leaving_unseen: watch::Receiver<bool>,
    closed: CancellationToken,
    abort: CancellationToken,
}

/// What listens on a port: replaced as a whole by each new table. Connections a client has already are not affected by a
/// change of the allowed sources, as with security groups, nor by one of how many there may be.
#[derive(Debug)]
pub struct Listening {
    /// Rules and settings.
    pub table: Arc<Listener>,
    /// Counters.
    pub metrics: Arc<ListenerMetrics>,
}

impl Port {
    /// Bound to this address; cut off with `abort` at the latest.
    pub fn new(address: SocketAddr, listening: Listening, abort: CancellationToken) -> Self {
        let (leaving, leaving_unseen) = watch::channel(false);
        Self {
            address,
            listening: ArcSwap::from_pointee(listening),
            admission: Arc::default(),
            leaving,
            leaving_unseen,
            closed: CancellationToken::new(),
            abort,
        }
    }

    /// What listens there now.
    pub fn listening(&self) -> Arc<Listening> {
        self.listening.load_full()
    }

    /// Takes over new rules and settings.
    pub fn listen(&self, listening: Listening) {
        self.listening.store(Arc::new(listening));
    }

    /// Tells clients to go elsewhere with their next request.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Accepts nothing more, and closes what is idle.
    pub fn close(&self) {
        self.leave();
        self.closed.cancel();
    }

    /// Cuts off what is left.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    /// Whether clients are told to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Changes to true when clients are told to go elsewhere, also for who asks after that.
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving_unseen.clone()
    }

    /// Ready once nothing more is accepted.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }

    /// Ready once what is left is cut off.
    pub fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.abort.cancelled()
    }
}
