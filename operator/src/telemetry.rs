//! Logs: one line per event, as JSON or as text.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::args::LogFormat;

/// Starts logging to stdout. Fails when `level` is not a list of filter directives.
pub fn start(format: LogFormat, level: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(level)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    match format {
        // Events name their objects; kube's spans would only say it again.
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        LogFormat::Text => subscriber.init(),
    }
    Ok(())
}
