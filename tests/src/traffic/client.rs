//! One exchange after another, by any of the protocols that a load balancer carries.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::http::{HttpClient, TIMEOUT, client};
use super::tally::{Answer, Outcome};

/// An exchange on an open connection without an answer for so long has failed.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// What nobody has looked at is sent again so many times, about as often as by Go's client: servers leave one after the
/// other.
const MAX_REPEATS: u32 = 6;
/// And so long after each time before: the client needs a moment to see that a connection is over.
const REPEAT_AFTER: Duration = Duration::from_millis(10);

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Client(How);

#[derive(Clone)]
enum How {
    Http { client: Box<HttpClient>, url: String, body: Option<Bytes> },
    WebSocket { url: String },
    Tcp { address: String },
}

impl Client {
    /// GET requests by HTTP/1.1, on connections that are kept.
    pub fn http1(url: impl Into<String>) -> Self {
        Self(How::Http { client: Box::new(client(false)), url: url.into(), body: None })
    }

    /// POST requests with that body by HTTP/1.1, on connections that are kept.
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self(How::Http { client: Box::new(client(false)), url: url.into(), body: Some(body.into()) })
    }

    /// GET requests by HTTP/2 without TLS, all on one connection.
    pub fn h2c(url: impl Into<String>) -> Self {
        Self(How::Http { client: Box::new(client(true)), url: url.into(), body: None })
    }

    /// Messages that a WebSocket echoes after a first one that names the replica.
    pub fn websocket(url: impl Into<String>) -> Self {
        Self(How::WebSocket { url: url.into() })
    }

    /// Lines that a TCP server echoes after a first one that names the replica.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self(How::Tcp { address: address.into() })
    }

    /// The same, asking for something else on the same connections. For HTTP only; others stay as they are.
    #[must_use]
    pub fn with_url(&self, url: impl Into<String>) -> Self {
        match &self.0 {
            How::Http { client, body, .. } => {
                Self(How::Http { client: client.clone(), url: url.into(), body: body.clone() })
            }
            other => Self(other.clone()),
        }
    }

    /// A session: for WebSocket and TCP a connection of its own, opened with the first exchange.
    pub fn session(&self) -> Session {
        Session { how: self.0.clone(), tunnel: None }
    }
}

/// Exchanges, one after another.
pub struct Session {
    how: How,
    tunnel: Option<Tunnel>,
}

enum Tunnel {
    WebSocket { socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>, replica: String },
    Tcp { stream: BufReader<TcpStream>, replica: String },
}

impl Session {
    /// Asks once, on the connection that is open, or on a new one after an error.
    pub async fn exchange(&mut self) -> Outcome {
        let outcome = match &self.how {
            How::Http { client, url, body } => ask(client, url, body.clone()).await,
            How::WebSocket { .. } | How::Tcp { .. } => self.echo().await,
        };
        outcome.map_err(|error| {
            self.tunnel = None;
            error.root_cause().to_string()
        })
    }

    async fn echo(&mut self) -> Result<Answer> {
        let tunnel = match &mut self.tunnel {
            Some(tunnel) => tunnel,
            none => none.insert(timeout(TIMEOUT, Tunnel::open(&self.how)).await.context("connect")??),
        };
        timeout(ECHO_TIMEOUT, tunnel.echo("hello")).await.context("echo")??;
        Ok(Answer { status: 200, replica: Some(tunnel.replica().into()) })
    }
}

async fn ask(client: &HttpClient, url: &str, body: Option<Bytes>) -> Result<Answer> {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let body = Full::new(body.unwrap_or_default());
    let request = || Request::builder().method(method.clone()).uri(url).body(body.clone());
    let exchange = async {
        let mut repeats = 0;
        let response = loop {
            match client.request(request()?).await {
                Err(error) if is_untouched(&error) && repeats < MAX_REPEATS => repeats += 1,
                response => break response?,
            }
            sleep(REPEAT_AFTER * repeats).await;
        };
        let replica =
            response.headers().get("x-replica").and_then(|value| value.to_str().ok()).map(String::from);
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        anyhow::Ok(Answer { status, replica })
    };
    timeout(TIMEOUT, exchange).await.context("no answer in time")?
}

/// Whether nobody has looked at the request, so that it may be sent again: the server said so by GOAWAY (RFC 9113, 6.8), or the
/// connection ended while the request waited for its turn on it, in the client. hyper's client repeats only what had not got
/// so far.
fn is_untouched(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let refused = cause.downcast_ref::<h2::Error>().is_some_and(|said| {
            said.is_go_away() && said.is_remote() && said.reason() == Some(h2::Reason::NO_ERROR)
        });
        let unsent = cause.downcast_ref::<hyper::Error>();
        refused || unsent.is_some_and(|error| error.is_user() || error.is_canceled())
    })
}

impl Tunnel {
    async fn open(how: &How) -> Result<Self> {
        match how {
            How::WebSocket { url } => {
                let (mut socket, _) = connect_async(url).await?;
                let greeting = socket.next().await.context("closed before the greeting")??;
                Ok(Self::WebSocket { socket: Box::new(socket), replica: greeting.to_text()?.into() })
            }
            How::Http { url: address, .. } | How::Tcp { address } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut stream = BufReader::new(stream);
                let replica = line(&mut stream).await.context("before the greeting")?;
                Ok(Self::Tcp { stream, replica })
            }
        }
    }

    async fn echo(&mut self, message: &str) -> Result<()> {
        let echoed = match self {
            Self::WebSocket { socket, .. } => {
                socket.send(Message::text(message)).await?;
                socket.next().await.context("closed by the server")??.into_text()?.to_string()
            }
            Self::Tcp { stream, .. } => {
                stream.write_all(format!("{message}\n").as_bytes()).await?;
                line(stream).await?
            }
        };
        ensure!(echoed == message, "sent {message:?}, got {echoed:?}");
        Ok(())
    }

    fn replica(&self) -> &str {
        match self {
            Self::WebSocket { replica, .. } | Self::Tcp { replica, .. } => replica,
        }
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.strip_suffix('\n').context("closed by the server")?.to_owned())
}
