//! The port for operators: `/metrics`, `/healthz`, `/readyz`, and `/snapshot` for a look at what is in force.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::in_force::Core;
use crate::listeners::Listeners;

mod inspect;

/// A proxy whose targets are not all checked yet would answer 503 to some requests that another one can serve. It waits
/// for the checks, but not longer than this.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);

/// A client must have sent its request after so long ...
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// ... and taken the answer after so long. Whoever can reach this port must not be able to use up the files that clients need.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(20);
/// Accepting that fails for want of resources is tried again after so long.
const BACK_OFF: Duration = Duration::from_secs(1);

/// What the endpoints show.
#[derive(Debug)]
pub struct Admin {
    core: Arc<Core>,
    listeners: Arc<Listeners>,
    registry: Registry,
    ready: AtomicBool,
}

impl Admin {
    /// Shows these.
    pub fn new(core: Arc<Core>, listeners: Arc<Listeners>, registry: Registry) -> Self {
        Self { core, listeners, registry, ready: AtomicBool::new(false) }
    }

    /// Ready once a snapshot is applied, a listener is bound and the targets were checked; from then on for ever: not even
    /// a proxy that leaves is unready, or what is in front would drop its connections.
    pub fn is_ready(&self) -> bool {
        if self.ready.load(Ordering::Relaxed) {
            return true;
        }
        let ready = self
            .listeners
            .first_bound()
            .is_some_and(|bound| self.core.is_checked() || bound.elapsed() > CHECK_PATIENCE);
        self.ready.fetch_or(ready, Ordering::Relaxed) || ready
    }
}

/// Binds the port.
///
/// # Errors
/// The port cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the process ends: one request for each connection.
pub async fn serve(socket: TcpListener, admin: Arc<Admin>) {
    let router = router(admin);
    loop {
        match socket.accept().await {
            Ok((client, _)) => drop(tokio::spawn(answer(client, router.clone()))),
            Err(_) => sleep(BACK_OFF).await,
        }
    }
}

async fn answer(client: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(client), TowerToHyperService::new(router));
    // A client that goes away, or is too slow, has nobody to be told of.
    let _ = timeout(CONNECTION_PATIENCE, connection).await;
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/snapshot", get(snapshot))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    if admin.is_ready() {
        (StatusCode::OK, "ok\n")
    } else if admin.listeners.first_bound().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first checks of the targets\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for a snapshot with a listener whose port can be bound\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &admin.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn snapshot(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    Json(inspect::inspect(&admin.core, &admin.listeners))
}
