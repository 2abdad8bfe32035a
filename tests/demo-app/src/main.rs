//! The web application that the demo and the tests balance.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use evenkeel_demo_app::{Identity, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A web application that says which replica answered, and can be made slow, busy or ill.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where HTTP is served.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where bytes are echoed, after a first line with the name of the replica.
    #[arg(long, env = "ECHO_LISTEN", default_value = "0.0.0.0:9000")]
    echo_listen: SocketAddr,
    /// Name of this replica; the host's when absent.
    #[arg(long, env = "POD_NAME")]
    replica: Option<String>,
    /// The zone this replica runs in.
    #[arg(long, env = "ZONE", default_value = "")]
    zone: String,
    /// What this replica says of its version.
    #[arg(long, env = "APP_VERSION", default_value = "1")]
    app_version: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let http = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    let echo = TcpListener::bind(args.echo_listen)
        .await
        .with_context(|| format!("listen on {}", args.echo_listen))?;
    let replica = match args.replica {
        Some(replica) => replica,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("read the host's name; set POD_NAME")?
            .trim()
            .to_owned(),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let identity = Identity { replica, zone: args.zone, version: args.app_version };
    serve(http, echo, identity, shutdown).await.context("serve")
}
