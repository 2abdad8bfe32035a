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
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::Reconcile;
use crate::metrics::Metrics;
use crate::port::{Listening, Port};
use crate::table::{Listener, Table};

mod accept;
mod socket;

pub use accept::Carriers;
use socket::ListeningSocket;

/// The open ports.
#[derive(Debug)]
pub struct Listeners {
    state: Mutex<State>,
    carriers: Carriers,
    metrics: Arc<Metrics>,
    accepting: TaskTracker,
    connections: TaskTracker,
    abort: CancellationToken,
    drain_timeout: Duration,
    first_bound: OnceLock<Instant>,
    /// Where connections are accepted and served.
    serving: Handle,
}

#[derive(Debug, Default)]
struct State {
    /// By number.
    open: BTreeMap<u16, Open>,
    /// The process leaves.
    leaving: bool,
    /// It accepts nothing more, whatever snapshots still come.
    closed: bool,
}

#[derive(Debug)]
struct Open {
    port: Arc<Port>,
    accepting: JoinHandle<()>,
}

impl Open {
    fn listener(&self) -> Arc<Listener> {
        self.port.listening().table.clone()
    }
}

impl Reconcile for Arc<Listeners> {
    async fn reconcile(&self, table: Arc<Table>) -> Vec<Rejection> {
        let before = self.names();
        let (rejections, closing) = self.open_and_close(&table);
        self.forget_later(before);
        // A port that is wanted again by the next snapshot must be free by then.
        futures::future::join_all(closing).await;
        rejections
    }

    fn open(&self) -> Vec<Arc<Listener>> {
        self.state.lock().open.values().map(Open::listener).collect()
    }
}

impl Listeners {
    /// None yet. Connections go to these carriers, on the runtime in which this is called; what is in flight on a removed
    /// listener is granted `drain_timeout`.
    pub fn new(carriers: Carriers, metrics: Arc<Metrics>, drain_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            carriers,
            metrics,
            accepting: TaskTracker::new(),
            connections: TaskTracker::new(),
            abort: CancellationToken::new(),
            drain_timeout,
            first_bound: OnceLock::new(),
            serving: Handle::current(),
        })
    }

    /// Opens, changes and closes ports so that they are those of the table. Returns the listeners whose port cannot be had,
    /// which go on with the port they had, and the accept loops that are about to end.
    fn open_and_close(&self, table: &Table) -> (Vec<Rejection>, Vec<JoinHandle<()>>) {
        let _serving = self.serving.enter();
        let mut state = self.state.lock();
        let mut rejections = Vec::new();
        let mut kept = BTreeSet::new();
        for listener in incumbents_first(table, &state.open) {
            match self.open_or_change(&mut state, listener, &kept) {
                Ok(()) => kept.extend([listener.port]),
                Err(reason) => {
                    kept.extend(port_of(&state.open, listener));
                    let name = listener.name.clone();
                    rejections.push(Rejection { kind: ResourceKind::Listener, name, reason });
                }
            }
        }
        let gone: Vec<u16> = state.open.keys().filter(|number| !kept.contains(number)).copied().collect();
        let gone = gone.iter().filter_map(|number| state.open.remove(number));
        (rejections, gone.map(|open| self.close(open)).collect())
    }

    fn names(&self) -> BTreeSet<String> {
        self.state.lock().open.values().map(|open| open.listener().name.clone()).collect()
    }

    /// The counters of listeners that went are shown until what is in flight there is over.
    fn forget_later(self: &Arc<Self>, mut gone: BTreeSet<String>) {
        gone.retain(|name| !self.names().contains(name));
        if gone.is_empty() {
            return;
        }
        let listeners = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(listeners.drain_timeout).await;
            let back = listeners.names();
            gone.difference(&back).for_each(|name| listeners.metrics.forget_listener(name));
        });
    }

    /// Names and addresses of the ports that are open.
    pub fn bound(&self) -> Vec<(String, SocketAddr)> {
        let state = self.state.lock();
        state.open.values().map(|open| (open.listener().name.clone(), open.port.address)).collect()
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
        let mut state = self.state.lock();
        state.leaving = true;
        for open in state.open.values() {
            open.port.leave();
        }
    }

    /// Closes every port and the connections that are idle, for good.
    pub fn close_all(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for open in std::mem::take(&mut state.open).into_values() {
            drop(self.close(open));
        }
    }

    /// Waits until no connection is left; after [`Self::close_all`] none comes.
    pub async fn idle(&self) {
        self.accepting.close();
        self.accepting.wait().await;
        self.connections.close();
        self.connections.wait().await;
    }

    /// Cuts off what is left.
    pub fn abort_all(&self) {
        self.abort.cancel();
    }

    fn open_or_change(
        &self,
        state: &mut State,
        listener: &Arc<Listener>,
        taken: &BTreeSet<u16>,
    ) -> Result<(), String> {
        let known = state.open.get(&listener.port);
        if let (Some(open), true) = (known, taken.contains(&listener.port)) {
            return Err(format!(
                "port {} is used by listener {} already",
                listener.port,
                open.listener().name
            ));
        }
        if let Some(open) = known {
            open.port.listen(self.listening(listener, Some(&open.port)));
        } else if !state.closed {
            let open = self
                .bind(listener)
                .map_err(|error| format!("port {} cannot be bound: {error}", listener.port))?;
            if state.leaving {
                open.port.leave();
            }
            state.open.insert(listener.port, open);
        }
        Ok(())
    }

    fn bind(&self, listener: &Arc<Listener>) -> io::Result<Open> {
        let socket = ListeningSocket::bind(listener.port)?;
        let address = socket.address()?;
        self.first_bound.get_or_init(Instant::now);
        let port = Arc::new(Port::new(address, self.listening(listener, None), self.abort.child_token()));
        tracing::info!(listener = %listener.name, %address, "listening");
        let accepting = accept::run(socket, port.clone(), self.carriers.clone(), self.connections.clone());
        Ok(Open { port, accepting: self.accepting.spawn(accepting) })
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

    /// Closes a port; what is in flight there is cut off in the end.
    fn close(&self, open: Open) -> JoinHandle<()> {
        let Open { port, accepting } = open;
        tracing::info!(listener = %port.listening().table.name, address = %port.address, "closing");
        port.close();
        let patience = self.drain_timeout;
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            port.abort();
        });
        accepting
    }
}

/// Where two listeners want one port, that which has it keeps it.
fn incumbents_first<'t>(table: &'t Table, open: &BTreeMap<u16, Open>) -> Vec<&'t Arc<Listener>> {
    let mut listeners: Vec<_> = table.listeners.values().collect();
    listeners.sort_by_key(|listener| {
        open.get(&listener.port).is_none_or(|open| open.listener().name != listener.name)
    });
    listeners
}

/// The port that a listener has, if it has one.
fn port_of(open: &BTreeMap<u16, Open>, listener: &Listener) -> Option<u16> {
    open.iter().find(|(_, open)| open.listener().name == listener.name).map(|(number, _)| *number)
}
