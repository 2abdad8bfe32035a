//! Ports, opened, changed and closed at runtime.
//!
//! [`Listeners::reconcile`] compares the ports that are open with those that a table wants. A port is known by its number:
//! when listeners swap ports, or one is renamed, no socket is touched. New rules, time-outs or sources reach an open port by
//! an atomic swap. Closing one port lets what is in flight there finish, and no other port notices.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use evenkeel_proxy_api::report::{Rejection, ResourceKind};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::Reconcile;
use crate::metrics::Metrics;
use crate::table::{Listener, Table};

mod accept;
mod port;
mod socket;

pub use accept::Carriers;
pub use port::{Listening, Port};

/// The open ports.
#[derive(Debug)]
pub struct Listeners {
    open: Mutex<BTreeMap<u16, Arc<Port>>>,
    carriers: Carriers,
    metrics: Arc<Metrics>,
    connections: TaskTracker,
    abort: CancellationToken,
    drain_timeout: Duration,
    first_bound: OnceLock<Instant>,
}

impl Reconcile for Arc<Listeners> {
    async fn reconcile(&self, table: Arc<Table>) -> Vec<Rejection> {
        Listeners::reconcile(self, &table)
    }
}

impl Listeners {
    /// None yet. Connections go to these carriers; what is in flight on a removed listener is granted `drain_timeout`.
    pub fn new(carriers: Carriers, metrics: Arc<Metrics>, drain_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            carriers,
            metrics,
            connections: TaskTracker::new(),
            abort: CancellationToken::new(),
            drain_timeout,
            first_bound: OnceLock::new(),
        })
    }

    /// Opens, changes and closes ports so that they are those of the table, and returns the listeners whose port cannot be
    /// bound. Such a listener goes on with the port it had. Must be called inside of a Tokio runtime.
    pub fn reconcile(&self, table: &Table) -> Vec<Rejection> {
        let mut open = self.open.lock();
        let mut rejections = Vec::new();
        let mut kept = BTreeSet::new();
        for listener in table.listeners.values() {
            match self.open_or_change(&mut open, listener) {
                Ok(number) => kept.extend([number]),
                Err(rejection) => {
                    kept.extend(keep_old(&open, listener));
                    rejections.push(rejection);
                }
            }
        }
        open.retain(|number, port| {
            let keep = kept.contains(number);
            if !keep {
                self.close(port.clone());
            }
            keep
        });
        rejections
    }

    /// Names and addresses of the ports that are open.
    pub fn bound(&self) -> Vec<(String, SocketAddr)> {
        self.open.lock().values().map(|port| (port.listening().table.name.clone(), port.address)).collect()
    }

    /// When a port was bound for the first time.
    pub fn first_bound(&self) -> Option<Instant> {
        self.first_bound.get().copied()
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Tells clients to go elsewhere with their next request, while accepting goes on.
    pub fn announce_leaving(&self) {
        for port in self.open.lock().values() {
            port.leave();
        }
    }

    /// Closes every port and the connections that are idle.
    pub fn close_all(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for port in open.into_values() {
            self.close(port);
        }
    }

    /// Waits until no connection is left; after [`Self::close_all`] none comes.
    pub async fn idle(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    /// Cuts off what is left.
    pub fn abort_all(&self) {
        self.abort.cancel();
    }

    fn open_or_change(
        &self,
        open: &mut BTreeMap<u16, Arc<Port>>,
        listener: &Arc<Listener>,
    ) -> Result<u16, Rejection> {
        if let Some(port) = open.get(&listener.port) {
            port.listen(self.listening(listener, Some(port)));
            return Ok(listener.port);
        }
        let port = self.bind(listener).map_err(|error| Rejection {
            kind: ResourceKind::Listener,
            name: listener.name.clone(),
            reason: format!("port {} cannot be bound: {error}", listener.port),
        })?;
        tracing::info!(listener = %listener.name, address = %port.address, "listening");
        open.insert(listener.port, port);
        Ok(listener.port)
    }

    fn bind(&self, listener: &Arc<Listener>) -> io::Result<Arc<Port>> {
        let socket = socket::bind(listener.port)?;
        self.first_bound.get_or_init(Instant::now);
        let port = Arc::new(Port::new(
            socket.local_addr()?,
            self.listening(listener, None),
            self.abort.child_token(),
        ));
        tokio::spawn(accept::run(socket, port.clone(), self.carriers.clone(), self.connections.clone()));
        Ok(port)
    }

    /// A listener that keeps its name keeps its counters.
    fn listening(&self, listener: &Arc<Listener>, port: Option<&Arc<Port>>) -> Listening {
        let metrics = port
            .map(|port| port.listening())
            .filter(|listening| listening.table.name == listener.name)
            .map_or_else(
                || Arc::new(self.metrics.listener(&listener.name)),
                |listening| listening.metrics.clone(),
            );
        Listening { table: listener.clone(), metrics }
    }

    fn close(&self, port: Arc<Port>) {
        tracing::info!(listener = %port.listening().table.name, address = %port.address, "closing");
        port.close();
        let patience = self.drain_timeout;
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            port.abort();
        });
    }
}

/// The port that a listener had under its name, if there is one: it goes on when the new one cannot be bound.
fn keep_old(open: &BTreeMap<u16, Arc<Port>>, listener: &Listener) -> Option<u16> {
    open.iter().find(|(_, port)| port.listening().table.name == listener.name).map(|(number, _)| *number)
}
