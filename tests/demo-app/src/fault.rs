//! Ways to fail, for who wants to see what a load balancer makes of them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::Listener;
use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::passing::Passing;

/// What a slow answer takes longer.
const SLOWNESS: Duration = Duration::from_millis(500);
/// What a body that is cut short was said to be long.
const PROMISED: u16 = 1000;
/// Long enough for the head and the first bytes of a body to be on their way.
const BEFORE_THE_CUT: Duration = Duration::from_millis(10);

/// How this replica fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// Every answer takes half a second longer.
    Slow,
    /// A connection is reset as soon as anything arrives on it.
    Reset,
    /// Every answer is shorter than its Content-Length says.
    Short,
}

/// Makes answers slow or short.
pub(crate) async fn falter(
    State(fault): State<Arc<Passing<Fault>>>,
    request: Request,
    next: Next,
) -> Response {
    let fault = fault.get(Instant::now());
    if fault == Some(Fault::Slow) {
        tokio::time::sleep(SLOWNESS).await;
    }
    let response = next.run(request).await;
    if fault == Some(Fault::Short) && response.status() == StatusCode::OK {
        cut_short(response)
    } else {
        response
    }
}

fn cut_short(mut response: Response) -> Response {
    let pieces = futures::stream::unfold(Some(Bytes::from_static(b"not all")), |piece| async move {
        if piece.is_none() {
            tokio::time::sleep(BEFORE_THE_CUT).await;
        }
        piece.map(|piece| (Ok::<_, std::convert::Infallible>(piece), None))
    });
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(PROMISED));
    *response.body_mut() = Body::from_stream(pieces);
    response
}

/// Accepts connections that may be reset.
pub(crate) struct Acceptor {
    /// Where they come from.
    pub(crate) listener: TcpListener,
    /// How they fail.
    pub(crate) fault: Arc<Passing<Fault>>,
}

impl Listener for Acceptor {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection { stream, fault: self.fault.clone() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that is reset by what arrives while [`Fault::Reset`] is set.
pub(crate) struct Connection {
    stream: TcpStream,
    fault: Arc<Passing<Fault>>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.fault.get(Instant::now()) == Some(Fault::Reset) {
            self.stream.set_zero_linger()?; // closing it sends a reset
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
