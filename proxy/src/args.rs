//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};

/// The data plane of Evenkeel: passes requests and connections to targets.
#[derive(Parser, Debug, Clone)]
#[command(name = "evenkeel-proxy", version, group = ArgGroup::new("source").required(true).args(["snapshot", "operator"]))]
pub struct Args {
    /// Serve this file (YAML, of the shape that the operator pushes) and take it over again whenever it changes
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,

    /// Serve what the operator at this address pushes, such as https://evenkeel-operator-push.evenkeel-system.svc:8443
    #[arg(
        long,
        value_name = "URL",
        env = "EVENKEEL_OPERATOR",
        requires = "ca_file",
        requires = "token_file"
    )]
    pub operator: Option<String>,

    /// Certificates (PEM) with one of which the operator's must be signed
    #[arg(long, value_name = "FILE", env = "EVENKEEL_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// The ServiceAccount token shown to the operator
    #[arg(long, value_name = "FILE", env = "EVENKEEL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Address of /metrics, /healthz, /readyz and /snapshot
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9902", env = "EVENKEEL_ADMIN")]
    pub admin: SocketAddr,

    /// Threads that serve; as many as there are cores when absent
    #[arg(long, value_name = "NUMBER", env = "EVENKEEL_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// After SIGTERM go on accepting for so long, until the balancers and nodes in front have noticed
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration, env = "EVENKEEL_TERMINATION_WAIT")]
    pub termination_wait: Duration,

    /// After that, what requests in flight are granted to finish
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration, env = "EVENKEEL_DRAIN_TIMEOUT")]
    pub drain_timeout: Duration,

    /// Write a line of JSON for each request and TCP session to this file, or to standard output for `-`
    #[arg(long, value_name = "FILE", env = "EVENKEEL_ACCESS_LOG")]
    pub access_log: Option<String>,

    /// Form of the proxy's own log, which goes to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "EVENKEEL_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// What the proxy's own log contains, such as `info` or `evenkeel_proxy=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "EVENKEEL_LOG_LEVEL")]
    pub log_level: String,
}

/// Form of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("evenkeel-proxy").chain(args.iter().copied()))
    }

    #[test]
    fn exactly_one_source_is_asked_for() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--snapshot", "a.yaml"]).is_ok());
        assert!(
            parse(&[
                "--snapshot",
                "a.yaml",
                "--operator",
                "https://o:8443",
                "--ca-file",
                "c",
                "--token-file",
                "t"
            ])
            .is_err()
        );
    }

    #[test]
    fn an_operator_needs_a_ca_and_a_token() {
        assert!(parse(&["--operator", "https://o:8443", "--ca-file", "c"]).is_err());
        assert!(parse(&["--operator", "https://o:8443", "--ca-file", "c", "--token-file", "t"]).is_ok());
    }

    #[test]
    fn durations_are_written_as_in_the_api() {
        let args =
            parse(&["--snapshot", "a", "--termination-wait", "0s", "--drain-timeout", "1m30s"]).unwrap();
        assert_eq!((args.termination_wait, args.drain_timeout), (Duration::ZERO, Duration::from_secs(90)));
    }
}
