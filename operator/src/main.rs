//! The operator: waits for the Lease, and while it holds it reconciles, pushes and scales.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use evenkeel_operator::args::Args;
use evenkeel_operator::leader::{Operator, lead};
use evenkeel_operator::lease::{Candidate, Timing};
use evenkeel_operator::{admin, telemetry};
use kube::{Api, Client, Config};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A request to the API server that gets no connection for so long has failed. (Watches read for longer.)
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _log = telemetry::start(args.log_format, &args.log_level).context("--log-level")?;
    info!(version = env!("CARGO_PKG_VERSION"), namespace = args.namespace, "starting");
    let shutdown = stop_on_signal()?;

    let mut registry = Registry::with_prefix("evenkeel_operator");
    let operator = Arc::new(Operator::new(client().await?, args.clone(), &mut registry));
    let candidate = Candidate::new(
        Api::namespaced(operator.client.clone(), &args.namespace),
        args.pod_name,
        Timing::default(),
    );

    let listener = TcpListener::bind(args.admin_address)
        .await
        .with_context(|| format!("cannot listen on {} for --admin-address", args.admin_address))?;
    let stop = shutdown.clone().cancelled_owned();
    let admin = tokio::spawn(admin::serve(listener, Arc::new(registry), candidate.seen(), stop));

    candidate.run(|epoch, stop| lead(operator.clone(), epoch, stop), shutdown).await;
    admin.await?.context("the admin endpoint failed")
}

async fn client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("no Kubernetes to talk to")?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok(Client::try_from(config)?)
}

/// A token that is cancelled on SIGTERM or SIGINT.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("asked to stop");
        stop.cancel();
    });
    Ok(token)
}
