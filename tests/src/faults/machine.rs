//! Faults of processes and nodes, by the local cluster's script.

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::environment::repository;

/// A signal that breaks a process, or mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It is gone at once.
    Kill,
    /// It does nothing any more, and keeps all its connections.
    Stop,
    /// It goes on.
    Continue,
    /// To metrics-server: what it measures is an hour old from now on.
    Age,
    /// Ends [`Signal::Age`].
    Refresh,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Age => "USR1",
            Self::Refresh => "USR2",
        }
    }
}

/// Sends a signal to a component of the cluster, by its name in `cluster logs`, or to the containers of a pod, by its UID.
///
/// # Errors
/// When there is no such process.
pub async fn signal(signal: Signal, what: &str) -> Result<()> {
    cluster(&["signal", signal.name(), what]).await
}

/// Lets the wall clock of a component's or pod's processes, named as for [`signal`], and nobody else's, differ from the
/// machine's by so many seconds, until it is set again.
///
/// # Errors
/// When there is no such process, or the machine's processor is none whose code is known.
pub async fn set_clock(seconds: i64, what: &str) -> Result<()> {
    cluster(&["clock", &seconds.to_string(), what]).await
}

/// A node that runs, but hears and is heard by nobody.
///
/// # Errors
/// When there is no such node.
pub async fn partition(node: &str) -> Result<()> {
    cluster(&["partition", node]).await
}

/// Ends a [`partition`].
///
/// # Errors
/// When there is no such node.
pub async fn heal(node: &str) -> Result<()> {
    cluster(&["heal", node]).await
}

/// A node that is gone from one moment to the next, with all that runs on it.
///
/// # Errors
/// When there is no such node.
pub async fn lose_power(node: &str) -> Result<()> {
    cluster(&["node-stop", node]).await
}

/// Ends [`lose_power`].
///
/// # Errors
/// When the node does not start.
pub async fn boot(node: &str) -> Result<()> {
    cluster(&["node-start", node]).await
}

async fn cluster(arguments: &[&str]) -> Result<()> {
    let script = repository().join("tests/cluster/cluster");
    let output = Command::new(&script).args(arguments).output().await.context("run tests/cluster/cluster")?;
    if !output.status.success() {
        bail!("cluster {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
