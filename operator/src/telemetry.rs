//! Logs: one line per event, as JSON or as text, written by a thread of its own: whoever should read them may stop, and must
//! not stop the operator by that.

use std::io::{IsTerminal as _, stdout};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::args::LogFormat;

/// Logs to stdout until what is returned is dropped, which waits a moment for the last lines. Fails when `level` is not a
/// list of filter directives.
pub fn start(format: LogFormat, level: &str) -> Result<WorkerGuard, ParseError> {
    let filter = EnvFilter::try_new(level)?;
    let (writer, guard) = tracing_appender::non_blocking(stdout());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(true).with_writer(writer);
    match format {
        // Events name their objects; kube's spans would only say it again.
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        LogFormat::Text => subscriber.with_ansi(stdout().is_terminal()).init(),
    }
    Ok(guard)
}
