//! The gRPC server that proxies dial.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::proto::push_server::{Push, PushServer};
use evenkeel_proxy_api::proto::{FromProxy, Update};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, warn};

use super::metrics::Metrics;
use super::publisher::Publisher;
use super::session::Session;
use super::tls::{Serving, incoming};
use crate::auth::{self, Authenticate};
use crate::world::World;

/// What a proxy sends at once is smaller.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// Updates on their way to one proxy; a slower one skips versions.
const OUTBOUND: usize = 4;
/// A proxy that is silent for so long is asked whether it is there, and has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Serves proxies.
pub struct Service {
    /// What is published.
    pub publisher: Arc<Publisher>,
    /// Which pods are proxies.
    pub world: Arc<World>,
    /// Checks tokens.
    pub authenticator: Arc<dyn Authenticate>,
    /// Counters.
    pub metrics: Metrics,
    /// Cancelled when no stream must go on.
    pub stop: CancellationToken,
}

impl Service {
    async fn session(&self, request: &Request<Streaming<FromProxy>>) -> Result<Session, auth::Error> {
        let token = auth::bearer(request.metadata())?;
        let pod = self.authenticator.authenticate(token).await?;
        Ok(Session {
            publisher: self.publisher.clone(),
            metrics: self.metrics.clone(),
            authenticator: self.authenticator.clone(),
            load_balancer: auth::load_balancer(&self.world, &pod)?,
            pod,
            token: token.to_owned(),
            stop: self.stop.clone(),
        })
    }
}

#[tonic::async_trait]
impl Push for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let session = self.session(&request).await.map_err(|error| {
            self.metrics.refused.inc();
            warn!(from = ?request.remote_addr(), %error, "a call was refused");
            Status::from(error)
        })?;
        let (out, updates) = mpsc::channel(OUTBOUND);
        let (inbound, gone) = (request.into_inner(), out.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = session.run(inbound, out) => {}
                // The proxy closed its side: `run` is dropped, and with it what counts the proxy as connected.
                () = gone.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(updates))))
    }
}

/// Serves until `service.stop`, or until the server fails. Dropping this future ends all streams, too.
pub async fn serve(listener: TcpListener, serving: Arc<Serving>, service: Service) -> &'static str {
    const NAME: &str = "push server";
    let stop = service.stop.child_token();
    let service = Service { stop: stop.clone(), ..service };
    let ended = stop.clone().cancelled_owned();
    let _end_streams = stop.drop_guard();
    let connections = match incoming(listener, serving) {
        Ok(connections) => connections,
        Err(error) => {
            error!(%error, "proxies cannot be served over TLS");
            return NAME;
        }
    };
    let push = PushServer::new(service).max_decoding_message_size(MESSAGE_LIMIT);
    let result = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(8)
        .add_service(push)
        .serve_with_incoming_shutdown(connections, ended)
        .await;
    if let Err(error) = result {
        error!(%error, "the push server failed");
    }
    NAME
}

#[cfg(test)]
mod tests;
