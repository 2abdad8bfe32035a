//! The parts put together.
//!
//! ```text
//! snapshot ─► Applier ─► Core ◄──────── carriers ◄─ Listeners ◄─ clients
//!                 └────► Listeners
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

use crate::access_log::{AccessLog, Writer};
use crate::admin::Admin;
use crate::apply::Applier;
use crate::carrier::Shared;
use crate::http::HttpCarrier;
use crate::http1::Http1Carrier;
use crate::in_force::Core;
use crate::listeners::{Carriers, Listeners};
use crate::metrics::Metrics;
use crate::metrics::groups::GroupCollector;
use crate::tcp::TcpCarrier;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve.
    pub threads: usize,
    /// What is in flight on a removed listener is granted so long.
    pub drain_timeout: Duration,
    /// File of the access log, `-` for standard output; absent for none.
    pub access_log: Option<String>,
    /// What carries HTTP/1 clients.
    pub http1: Http1Through,
}

/// A carrier for HTTP/1 clients. Both do the same; tests compare them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http1Through {
    /// That with the least work per request.
    #[default]
    Http1,
    /// That of HTTP/2.
    HttpProxy,
}

/// A proxy that serves nothing yet: hand snapshots to its applier.
#[derive(Debug)]
pub struct Proxy {
    /// Takes over snapshots.
    pub applier: Arc<Applier<Arc<Listeners>>>,
    /// What is in force.
    pub core: Arc<Core>,
    /// The open ports.
    pub listeners: Arc<Listeners>,
    /// What the admin port shows.
    pub admin: Arc<Admin>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Writes the access log.
    pub writer: Writer,
}

impl Proxy {
    /// Puts a proxy together. It serves on the runtime in which this is called, wherever snapshots are applied.
    ///
    /// # Errors
    /// The access log cannot be opened.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let (access_log, writer) = match &settings.access_log {
            Some(path) => AccessLog::open(path, metrics.access_log_dropped.clone())?,
            None => (AccessLog::off(), Writer::default()),
        };
        let shared = Shared { access_log, started: Instant::now() };
        let http1 = Arc::new(Http1Carrier::new(shared.clone()));
        let carriers = Carriers {
            http1: (settings.http1 == Http1Through::Http1).then_some(http1),
            http: Arc::new(HttpCarrier::new(shared.clone(), settings.threads)),
            tcp: Arc::new(TcpCarrier::new(shared)),
        };
        let core = Arc::new(Core::default());
        let listeners = Listeners::new(carriers, metrics.clone(), settings.drain_timeout);
        let registry = registry(&metrics, &core);
        Ok(Self {
            applier: Arc::new(Applier::new(core.clone(), listeners.clone(), metrics.clone())),
            admin: Arc::new(Admin::new(core.clone(), listeners.clone(), registry)),
            core,
            listeners,
            metrics,
            writer,
        })
    }
}

fn registry(metrics: &Metrics, core: &Arc<Core>) -> Registry {
    let mut registry = Registry::with_prefix("evenkeel_proxy");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(GroupCollector(core.clone())));
    registry
}
