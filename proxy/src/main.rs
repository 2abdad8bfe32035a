//! The program: reads its arguments, puts the parts together, and leaves when it is told to.

mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;
use evenkeel_proxy::admin;
use evenkeel_proxy::args::Args;
use evenkeel_proxy::control::Control;
use evenkeel_proxy::control::dial::TlsDial;
use evenkeel_proxy::drain::{Ending, Patience, Signals, leave};
use evenkeel_proxy::health;
use evenkeel_proxy::health::probe::NetworkProbe;
use evenkeel_proxy::in_force::{look, sweep};
use evenkeel_proxy::proxy::{Http1Through, Proxy, Settings};
use evenkeel_proxy::snapshot_file;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tasks that do not end by themselves are given so long to notice that the runtime has.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let _log = telemetry::init(args.log_format, &args.log_level).context("--log-level")?;
    let threads = args.threads.map_or_else(std::thread::available_parallelism, Ok)?.get();
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    // Snapshots, checks and metrics have this thread: however much there is of them, no request waits for it.
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = Settings {
        threads,
        drain_timeout: args.drain_timeout,
        access_log: args.access_log.clone(),
        http1: Http1Through::default(),
    };
    let proxy = {
        let _serving = serving.enter();
        Proxy::new(&settings).context("--access-log")?
    };
    let served = control.block_on(serve(args, &proxy));
    serving.shutdown_timeout(LAST_WORDS);
    control.shutdown_timeout(LAST_WORDS);
    proxy.writer.finish();
    served
}

/// Serves until a signal, and then until what is in flight has finished.
async fn serve(args: &Args, proxy: &Proxy) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let socket = admin::bind(args.admin).await.with_context(|| format!("--admin {}", args.admin))?;
    tokio::spawn(admin::serve(socket, Arc::clone(&proxy.admin)));
    tokio::spawn(health::run(Arc::clone(&proxy.core), NetworkProbe, fastrand::Rng::new()));
    tokio::spawn(sweep(Arc::clone(&proxy.core)));
    tokio::spawn(look(Arc::clone(&proxy.core)));
    let patience = Patience { termination_wait: args.termination_wait, drain_timeout: args.drain_timeout };
    let serving = async {
        signals.next().await;
        leave(&proxy.listeners, patience, signals.next()).await
    };
    tokio::select! {
        failed = follow(args, proxy) => failed,
        ending = serving => {
            tell(ending, proxy);
            Ok(())
        }
    }
}

/// Takes over what the file says or the operator pushes, for ever.
///
/// # Errors
/// The file is bad from the start, or an argument is not what it must be.
async fn follow(args: &Args, proxy: &Proxy) -> anyhow::Result<()> {
    if let Some(path) = &args.snapshot {
        return Ok(snapshot_file::run(path, &proxy.applier).await?);
    }
    let needed = |path: &Option<PathBuf>, flag| path.clone().ok_or_else(|| anyhow!("{flag} is missing"));
    let operator = args.operator.as_deref().unwrap_or_default();
    let ca_file = needed(&args.ca_file, "--ca-file")?;
    let token_file = needed(&args.token_file, "--token-file")?;
    let dial = TlsDial::new(operator, ca_file, token_file).context("--operator")?;
    let control = Control::new(dial, Arc::clone(&proxy.applier), Arc::clone(&proxy.metrics));
    control.run(fastrand::Rng::new()).await;
    Ok(())
}

fn tell(ending: Ending, proxy: &Proxy) {
    let connections = proxy.listeners.connections();
    match ending {
        Ending::Idle => tracing::info!("everything finished"),
        Ending::TimedOut => tracing::warn!(connections, "the drain time-out passed: what is left is cut off"),
        Ending::Forced => tracing::warn!(connections, "a second signal came: what is left is cut off"),
    }
}
