//! Single requests, for tests that look at the answer.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// A request without an answer for so long has failed.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A client that keeps connections, and repeats nothing by itself but what an HTTP/2 server that goes away has not touched
/// (GOAWAY, RFC 9113, 6.8), as every HTTP/2 client does.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A client for HTTP/1.1, or for HTTP/2 without TLS.
pub fn client(h2c: bool) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .http2_only(h2c)
        .retry_canceled_requests(h2c)
        // shorter than what any server here grants
        .pool_idle_timeout(Duration::from_secs(20))
        .build(connector)
}

/// Sends a request and reads the whole answer, on a connection of its own.
///
/// # Errors
/// When there is no answer, or none within [`TIMEOUT`].
pub async fn send(request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    send_within(TIMEOUT, request).await
}

/// As [`send`], with a time-out of the caller's.
///
/// # Errors
/// When there is no answer, or none in time.
pub async fn send_within(time: Duration, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    let what = format!("{} {}", request.method(), request.uri());
    let exchange = async {
        let (head, body) = client(false).request(request).await?.into_parts();
        anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    tokio::time::timeout(time, exchange).await.context("no answer in time").flatten().context(what)
}

/// Sends a GET request without further headers.
///
/// # Errors
/// As [`send`].
pub async fn get(url: &str) -> Result<Response<Bytes>> {
    send(Request::get(url).body(Full::default())?).await
}

/// The header `x-replica` of an answer with status 200.
///
/// # Errors
/// When the status is another, or the header is missing.
pub fn replica(response: &Response<Bytes>) -> Result<&str> {
    if response.status() != 200 {
        bail!("{}: {}", response.status(), String::from_utf8_lossy(response.body()));
    }
    Ok(response.headers().get("x-replica").context("no x-replica")?.to_str()?)
}
