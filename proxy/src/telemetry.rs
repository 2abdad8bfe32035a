//! The proxy's own log, on standard error, written by a thread of its own: whoever should read it may stop, and must not
//! stop requests by that.

use std::io::{IsTerminal, stderr};

use evenkeel_proxy::args::LogFormat;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// Pingora reports each client and target that misbehaves, so that whoever can connect could fill the log. All of that is
/// counted and in the access log; who wants to see it says so, for instance `info,pingora_proxy=error`.
const QUIET: &str = "pingora_core=off,pingora_proxy=off";

/// Logs in this form until what is returned is dropped, which waits a moment for the last lines.
///
/// # Errors
/// The filter is not one.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))?;
    let (writer, guard) = tracing_appender::non_blocking(stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        LogFormat::Text => subscriber.with_ansi(stderr().is_terminal()).with_target(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error))?;
    Ok(guard)
}
