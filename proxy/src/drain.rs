//! How the process leaves: nothing in flight is cut off as long as there is time.
//!
//! ```text
//! SIGTERM ─► leaving: stay ready, go on accepting, answer `Connection: close` / GOAWAY     for the termination wait
//!         ─► closed:  accept nothing, close idle connections, let the rest finish          for the drain time-out at most
//!         ─► exit as soon as nothing is left
//! ```
//!
//! To be unready or to refuse connections at once would drop traffic: balancers and nodes in front notice only after their
//! next check. A second signal means that somebody does not want to wait: what is left is cut off.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::listeners::Listeners;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After the signal, until nothing more is accepted.
    pub termination_wait: Duration,
    /// After that, until what is left is cut off.
    pub drain_timeout: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything finished.
    Idle,
    /// The drain time-out passed.
    TimedOut,
    /// A second signal came.
    Forced,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens to both from now on.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Leaves as described above, after the first signal. `again` is ready when a second one comes.
pub async fn leave(
    listeners: &Arc<Listeners>,
    patience: Patience,
    again: impl Future<Output = ()>,
) -> Ending {
    let ending = tokio::select! {
        ending = finish(listeners, patience) => ending,
        () = again => Ending::Forced,
    };
    listeners.abort_all();
    ending
}

async fn finish(listeners: &Arc<Listeners>, patience: Patience) -> Ending {
    tracing::info!(wait = ?patience.termination_wait, "leaving: connections are still accepted, and told to close");
    listeners.announce_leaving();
    tokio::time::sleep(patience.termination_wait).await;
    tracing::info!(timeout = ?patience.drain_timeout, connections = listeners.connections(), "accepting nothing more; what is in flight finishes");
    listeners.close_all();
    match tokio::time::timeout(patience.drain_timeout, listeners.idle()).await {
        Ok(()) => Ending::Idle,
        Err(_) => Ending::TimedOut,
    }
}
