//! The command line; every flag can be set by the environment as well.

use std::net::{IpAddr, SocketAddr};

use clap::{Parser, ValueEnum};

use crate::drain::ActionKind;

/// The control plane of Evenkeel: reconciles LoadBalancers, TargetGroups and ReplicaServices, tells the proxies what
/// they must know, and decides how many replicas there should be.
#[derive(Parser, Clone, Debug)]
#[command(name = "evenkeel-operator", version, about)]
pub struct Args {
    /// Image of the proxies that this operator starts.
    #[arg(long, env = "EVENKEEL_PROXY_IMAGE", value_name = "IMAGE")]
    pub proxy_image: String,

    /// Namespace this operator runs in: its Lease, its CA and the Service that proxies dial live there.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "evenkeel-system")]
    pub namespace: String,

    /// Name of this pod: who holds the Lease.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value_t = random_identity())]
    pub pod_name: String,

    /// Address of this pod: where the proxies find it while it leads.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub pod_ip: IpAddr,

    /// Where metrics, /healthz and /readyz are served.
    #[arg(long, env = "EVENKEEL_ADMIN_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,

    /// Where proxies are served while this operator leads.
    #[arg(long, env = "EVENKEEL_PUSH_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    pub push_address: SocketAddr,

    /// Where the API server asks about evictions while this operator leads.
    #[arg(
        long,
        env = "EVENKEEL_WEBHOOK_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:9443"
    )]
    pub webhook_address: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "EVENKEEL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or directives such as `info,evenkeel_operator=debug`.
    #[arg(long, env = "EVENKEEL_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// For tests of failover: this operator dies, as by `kill -9`, each time it has taken such a step with a replica.
    #[arg(long, env = "EVENKEEL_DIE_AFTER", value_enum, hide = true)]
    pub die_after: Option<ActionKind>,
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// An identity for an operator that runs outside of a pod. Never used twice, so that a Lease left behind is not taken
/// for one's own.
fn random_identity() -> String {
    format!("evenkeel-operator-{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_image_is_all_that_must_be_given() {
        let args = Args::try_parse_from(["evenkeel-operator", "--proxy-image=proxy:1"]).unwrap();
        assert_eq!(args.proxy_image, "proxy:1");
        assert_eq!(args.push_address.port(), 8443);
        assert_eq!(args.webhook_address.port(), 9443);
        assert_eq!(args.admin_address.port(), 8080);
    }

    #[test]
    fn an_unknown_log_format_is_refused() {
        assert!(Args::try_parse_from(["x", "--proxy-image=p", "--log-format=xml"]).is_err());
    }
}
