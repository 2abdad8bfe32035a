//! The carrier for h2c clients, over pingora-proxy. It can carry HTTP/1.1 as well.
//!
//! ```text
//! connection ─► Pingora's h1 or h2 server ─► one Flight per request ─► HttpProxy ─► hooks (one file each)
//!
//! request_filter    route → action                 response       header policy, latency, connection hygiene
//! upstream_peer     pick                           retries        what a failed attempt means
//! upstream_request  header policy                  logging        record
//! request_body      limits
//! ```
//!
//! The hooks hold no logic: they delegate to the core, which other carriers use as well.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evenkeel_proxy_api::snapshot::Limits;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};

use crate::access_log::AccessLog;
use crate::carrier::Shared;
use crate::errors::Reason;
use crate::port::Port;
use crate::record;
use crate::stream::{ClientStream, Connection, Opened};

mod answer;
mod context;
mod flight;
mod hooks;
mod last;
mod logging;
mod patience;
mod request_body;
mod request_filter;
mod response;
mod retries;
mod tunnel;
mod upstream_peer;
mod upstream_request;
mod view;

use context::Scope;
use hooks::Hooks;
use last::Last;
use patience::Patience;

/// Idle connections to targets that are kept, over all targets.
const POOL_SIZE: usize = 1024;

/// Serves HTTP connections of every listener, with one pool of connections to targets.
pub struct HttpCarrier {
    proxy: Arc<HttpProxy<Hooks>>,
    access_log: AccessLog,
}

impl fmt::Debug for HttpCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCarrier").finish_non_exhaustive()
    }
}

impl HttpCarrier {
    /// With this log; `threads` is the number of threads that serve.
    pub fn new(shared: Shared, threads: usize) -> Self {
        let conf = ServerConf { threads, upstream_keepalive_pool_size: POOL_SIZE, ..ServerConf::default() };
        let access_log = shared.access_log.clone();
        Self { proxy: Arc::new(http_proxy(&Arc::new(conf), Hooks { shared })), access_log }
    }

    /// Serves a client's connection until it ends.
    pub async fn serve(&self, opened: Opened, connection: Arc<Connection>, port: Arc<Port>) {
        let Opened { socket, begun, h2 } = opened;
        let listening = port.listening();
        let idle = listening.table.idle_timeout;
        let late = port.is_leaving();
        let requests = if late { 1 } else { listening.table.limits.requests_per_connection };
        let stream = ClientStream::new(socket, connection.clone(), listening.metrics.clone()).after(begun);
        let stream: Stream = Box::new(if h2 { stream.gathering() } else { stream });
        let app = Arc::new(App {
            proxy: self.proxy.clone(),
            access_log: self.access_log.clone(),
            connection,
            port: port.clone(),
            idle,
            limits: listening.table.limits,
            options: options(h2, idle),
            last: Last::new(requests),
            patience: Patience::default(),
        });
        let leaving = app.last.leaving();
        let serve = async {
            let mut served = pin!(app.process_new(stream, &leaving));
            tokio::select! {
                _ = &mut served => return,
                () = leaves(&port, late) => {}
            }
            app.last.leave();
            served.await;
        };
        tokio::select! {
            () = serve => {}
            () = app.patience.over() => tracing::info!(
                client = %app.connection.client, listener = %listening.metrics.name,
                "an HTTP/2 connection is closed: its client takes back most of what it asks for"
            ),
        }
    }
}

/// Ready when a client is to be told to go elsewhere. One that comes late, while the proxy leaves, has something to ask: it is
/// told with its first answer, not instead of one, and without any request when nothing more is accepted.
async fn leaves(port: &Port, late: bool) {
    if late {
        port.closed().await;
    } else {
        // It is never dropped before the port.
        let _ = port.leaving().changed().await;
    }
}

/// So many requests that the client took back before they could be looked at end an HTTP/2 connection. h2 has
/// 20, which a client is quick to reach that gives up on all its requests at once because they were held up on the way;
/// without any limit one could have requests read in vain for ever.
const MAX_TAKEN_BACK: usize = 500;

/// Heads that are larger than this are answered 431 by h2 itself, uncounted; others are measured as those of HTTP/1 are.
fn h2_options(limits: &Limits) -> H2Options {
    // What a field counts for besides its name and value (RFC 9113, 6.5.2).
    const FIELD: u32 = 32;
    let mut options = default_h2_options();
    options.max_header_list_size(limits.head_bytes + FIELD * limits.header_count);
    options.max_pending_accept_reset_streams(MAX_TAKEN_BACK);
    options
}

fn options(h2: bool, idle: Duration) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = h2;
    options.h2_idle_timeout = Some(idle);
    options
}

/// One connection, as Pingora's servers see it: a request that they have found is taken to its flight.
struct App {
    proxy: Arc<HttpProxy<Hooks>>,
    access_log: AccessLog,
    connection: Arc<Connection>,
    port: Arc<Port>,
    idle: Duration,
    limits: Limits,
    options: HttpServerOptions,
    last: Last,
    patience: Patience,
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_pipelining_enabled(true);
        if self.last.count() {
            session.set_keepalive_reuses_remaining(Some(0));
        }
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(whole_seconds(self.idle)));
        }
        let scope = Scope::new(self.port.clone(), self.connection.clone());
        let (controls, sent) = (scope.controls.clone(), self.connection.sent());
        let next = flight::fly(scope, self.proxy.process_new_http(session, shutdown)).await;
        self.patience.count(controls.is_taken_back());
        // Pingora has answered without asking the hooks: it could not make sense of the head.
        if !controls.has_begun() && self.connection.sent() > sent {
            let listening = self.port.listening();
            record::refused(&listening, &self.connection, &self.access_log, Reason::BadRequest);
        }
        next
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(h2_options(&self.limits))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Pingora counts in seconds, and takes 0 for ever.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1_000).max(1) as u64
}
