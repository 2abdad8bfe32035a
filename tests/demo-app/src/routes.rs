//! What is answered where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::Identity;
use crate::fault::{Fault, falter};
use crate::passing::Passing;
use crate::work::burn;

const MAX_WORK_MS: u64 = 10_000;
const MAX_SECONDS: u64 = 600;
const MAX_BYTES: u64 = 1 << 30;
const MAX_BODY: usize = 1 << 20;
const CHUNK: u64 = 64 << 10;
/// How often a slow download gets its next piece, at least.
const PACE: Duration = Duration::from_millis(100);
/// Work goes on in so many threads at once; the rest waits in line.
const WORKERS: usize = 4;

type Refusal = (StatusCode, String);

/// What the handlers share.
pub(crate) struct App {
    identity: Identity,
    health: Passing<StatusCode>,
    pub(crate) fault: Arc<Passing<Fault>>,
    workers: Arc<Semaphore>,
    tunnels: TaskTracker,
}

impl App {
    /// `tunnels` counts the WebSockets that are open.
    pub(crate) fn new(identity: Identity, tunnels: TaskTracker) -> Self {
        Self {
            identity,
            health: Passing::default(),
            fault: Arc::default(),
            workers: Arc::new(Semaphore::new(WORKERS)),
            tunnels,
        }
    }
}

/// All the routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/work", get(work))
        .route("/slow", get(slow))
        .route("/bytes", get(download))
        .route("/echo", any(echo))
        .route("/echo/{*rest}", any(echo))
        .route("/healthz", get(healthz))
        .route("/admin/health", post(set_health))
        .route("/admin/fault", post(set_fault))
        .route("/ws", get(websocket))
        .fallback(whoami)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.fault.clone(), falter))
        .layer(middleware::from_fn_with_state(app.clone(), sign))
        .with_state(app)
}

/// Says in every answer who gave it.
async fn sign(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [("x-replica", &app.identity.replica), ("x-zone", &app.identity.zone)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

async fn whoami(State(app): State<Arc<App>>) -> Json<Identity> {
    Json(app.identity.clone())
}

#[derive(Deserialize)]
struct Work {
    ms: u64,
}

async fn work(
    State(app): State<Arc<App>>,
    Query(Work { ms }): Query<Work>,
) -> Result<Json<Identity>, Refusal> {
    at_most("ms", ms, MAX_WORK_MS)?;
    let worker = app.workers.clone().acquire_owned().await.map_err(internal)?;
    tokio::task::spawn_blocking(move || {
        burn(Duration::from_millis(ms));
        drop(worker);
    })
    .await
    .map_err(internal)?;
    Ok(whoami(State(app)).await)
}

#[derive(Deserialize)]
struct Slow {
    s: u64,
}

async fn slow(
    State(app): State<Arc<App>>,
    Query(Slow { s }): Query<Slow>,
) -> Result<Json<Identity>, Refusal> {
    at_most("s", s, MAX_SECONDS)?;
    tokio::time::sleep(Duration::from_secs(s)).await;
    Ok(whoami(State(app)).await)
}

#[derive(Deserialize)]
struct Download {
    n: u64,
    #[serde(default)]
    s: u64,
}

async fn download(Query(Download { n, s }): Query<Download>) -> Result<Response, Refusal> {
    at_most("n", n, MAX_BYTES)?;
    at_most("s", s, MAX_SECONDS)?;
    let body = Body::from_stream(zeros(n, Duration::from_secs(s)));
    Ok(([("content-length", n.to_string()), ("content-type", "application/octet-stream".into())], body)
        .into_response())
}

/// So many bytes, spread evenly over so long.
fn zeros(total: u64, over: Duration) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let pieces =
        u64::max(total.div_ceil(CHUNK), (over.as_millis() / PACE.as_millis()) as u64).min(total).max(1);
    let (piece, pause) = (total.div_ceil(pieces), over / pieces as u32);
    futures::stream::unfold(total, move |left| async move {
        if left == 0 {
            return None;
        }
        tokio::time::sleep(pause).await;
        let size = left.min(piece);
        Some((Ok(Bytes::from(vec![b'0'; size as usize])), left - size))
    })
}

#[derive(Serialize)]
struct Echo {
    #[serde(flatten)]
    by: Identity,
    method: String,
    uri: String,
    version: String,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

async fn echo(State(app): State<Arc<App>>, request: Parts, body: Bytes) -> Json<Echo> {
    let mut by_name = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        by_name.entry(name.to_string()).or_default().push(value);
    }
    Json(Echo {
        by: app.identity.clone(),
        method: request.method.to_string(),
        uri: request.uri.to_string(),
        version: format!("{:?}", request.version),
        headers: by_name,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn healthz(State(app): State<Arc<App>>) -> (StatusCode, Json<Identity>) {
    (app.health.get(Instant::now()).unwrap_or(StatusCode::OK), whoami(State(app)).await)
}

#[derive(Deserialize)]
struct SetHealth {
    status: u16,
    s: Option<u64>,
}

async fn set_health(
    State(app): State<Arc<App>>,
    Query(SetHealth { status, s }): Query<SetHealth>,
) -> Result<Json<Identity>, Refusal> {
    at_most("s", s.unwrap_or(0), MAX_SECONDS)?;
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| (StatusCode::BAD_REQUEST, "status: write one from 200 to 999\n".to_owned()))?;
    app.health.set(status, s.map(Duration::from_secs), Instant::now());
    Ok(whoami(State(app)).await)
}

#[derive(Deserialize)]
struct SetFault {
    kind: Fault,
    s: Option<u64>,
}

async fn set_fault(
    State(app): State<Arc<App>>,
    Query(SetFault { kind, s }): Query<SetFault>,
) -> Result<Json<Identity>, Refusal> {
    at_most("s", s.unwrap_or(0), MAX_SECONDS)?;
    app.fault.set(kind, s.map(Duration::from_secs), Instant::now());
    Ok(whoami(State(app)).await)
}

async fn websocket(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    let open = app.tunnels.token();
    upgrade.max_message_size(MAX_BODY).on_upgrade(async move |socket| {
        // A client that goes away ends its own echo and nothing else.
        echo_messages(socket, &app.identity.replica).await.ok();
        drop(open);
    })
}

async fn echo_messages(mut socket: WebSocket, replica: &str) -> Result<(), axum::Error> {
    socket.send(Message::text(replica)).await?;
    while let Some(message) = socket.recv().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {} // answered by the protocol
        }
    }
    Ok(())
}

fn at_most(name: &str, value: u64, limit: u64) -> Result<(), Refusal> {
    if value <= limit {
        return Ok(());
    }
    Err((StatusCode::BAD_REQUEST, format!("{name}: write a number up to {limit}\n")))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}
