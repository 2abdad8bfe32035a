//! A web application for the demo and the tests: it says which replica answered, and can be made slow, busy or ill.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /` | who answered, as JSON; every answer also has the headers `x-replica` and `x-zone` |
//! | `GET /work?ms=5` | the same, after 5 ms of CPU time (at most 10 s) |
//! | `GET /slow?s=5` | the same, 5 s later (at most 10 minutes) |
//! | `GET /bytes?n=1000&s=10` | 1,000 bytes (at most 1 GiB), at once or spread over 10 s |
//! | any `/echo…` | method, URI, headers and body (at most 1 MiB) of the request, as JSON |
//! | `GET /healthz` | 200, or what it was set to |
//! | `POST /admin/health?status=503&s=8` | sets the health, for good or for 8 s |
//! | `POST /admin/fault?kind=slow&s=8` | for 8 s, or for good: `slow` answers half a second later, `reset` resets every connection that asks, `short` sends less than Content-Length says |
//! | `GET /ws` | a WebSocket that echoes, after a first message with the name of the replica |
//!
//! The echo port does as the WebSocket, with bytes and lines. On shutdown nothing new is accepted and what is in flight
//! is finished, WebSockets and echoes included.

mod echo;
mod fault;
mod passing;
mod routes;
mod work;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who answers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Identity {
    /// Name of this replica.
    pub replica: String,
    /// The zone it runs in; empty when unknown.
    pub zone: String,
    /// What it says of its version.
    pub version: String,
}

/// Serves HTTP and the echo until `shutdown` resolves and everything in flight is finished.
///
/// # Errors
/// When the HTTP listener fails for good.
pub async fn serve(
    http: TcpListener,
    echo: TcpListener,
    identity: Identity,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let tunnels = TaskTracker::new();
    let stopping = CancellationToken::new();
    let app = Arc::new(routes::App::new(identity.clone(), tunnels.clone()));
    let echoes = echo::accept(echo, identity.replica, tunnels.clone());
    tokio::spawn(stopping.clone().run_until_cancelled_owned(echoes));
    let http = fault::Acceptor { listener: http, fault: app.fault.clone() };
    axum::serve(http, routes::router(app))
        .with_graceful_shutdown(async move {
            shutdown.await;
            stopping.cancel();
        })
        .await?;
    tunnels.close();
    tunnels.wait().await;
    Ok(())
}
