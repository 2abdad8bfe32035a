//! A client's connection: one request after another.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFuture;

use super::client::Client;
use super::exchange::Upload;
use super::message::{Body, HeadScan, Refusal, empty_lines};
use super::order::{Deed, Desk};
use super::timer::Timer;
use crate::access_log::AccessLog;
use crate::carrier::Shared;
use crate::errors::Reason;
use crate::port::Port;
use crate::record::{self, Record};
use crate::sniff::{self, Sniffed};
use crate::stream::{Connection, Opened};

/// What a new connection was opened for, and the rest of a head, may be on its way when the listener closes: it is waited for
/// so long, since nobody was told to go elsewhere.
const LAST_CALL: Duration = Duration::from_millis(100);

/// A connection under way.
pub(super) struct Session<'s> {
    pub(super) client: Client,
    pub(super) timer: Timer,
    pub(super) shared: &'s Shared,
    port: &'s Port,
    /// Requests so far.
    requests: u32,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It can take another one.
    GoOn,
    /// It ends.
    End,
}

/// A request under way. When it is dropped, however that comes about, it is recorded.
pub(super) struct Request<'s> {
    pub(super) record: Record,
    log: &'s AccessLog,
    client: SocketAddr,
}

impl Request<'_> {
    /// Records the request, before it is dropped: what is left to do is of the connection.
    pub(super) fn over(&mut self) {
        self.record.finish(None, self.log, self.client);
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.over();
    }
}

/// Why there is no head.
enum NoHead {
    /// The client has gone, or the connection is not needed any more: there is nobody to tell.
    Ended,
    /// The client is told.
    Told(Reason),
}

impl<'s> Session<'s> {
    /// Over this socket.
    pub(super) fn new(
        socket: TcpStream,
        connection: Arc<Connection>,
        port: &'s Port,
        shared: &'s Shared,
    ) -> Self {
        let listening = port.listening();
        let timer = Timer::new(Instant::now() + listening.table.idle_timeout);
        let client = Client::new(socket, connection, listening.metrics.clone());
        Self { client, timer, shared, port, requests: 0 }
    }

    /// Serves until the connection ends, or gives it back when it begins with HTTP/2.
    pub(super) async fn run(mut self) -> Option<Opened> {
        let port = self.port;
        let mut closed = pin!(port.closed());
        if self.begins_http2(closed.as_mut()).await? {
            let (socket, begun) = self.client.into_parts();
            return Some(Opened { socket, begun, h2: true });
        }
        loop {
            let after = match self.head(closed.as_mut()).await {
                Ok(length) => self.request(length).await,
                Err(NoHead::Ended) => return None,
                Err(NoHead::Told(reason)) => {
                    self.refuse(reason).await;
                    After::End
                }
            };
            if after == After::End {
                return None;
            }
        }
    }

    /// Waits for the first bytes, and says whether they are HTTP/2. None when the connection ends before.
    async fn begins_http2(&mut self, mut closed: Pin<&mut WaitForCancellationFuture<'_>>) -> Option<bool> {
        loop {
            match sniff::classify(self.client.inbound.bytes()) {
                Sniffed::Http1 => return Some(false),
                Sniffed::Http2 => return Some(true),
                Sniffed::Nothing | Sniffed::Undecided => {}
            }
            poll_fn(|cx| self.poll_head(cx, closed.as_mut(), false)).await.ok()?;
        }
    }

    /// Waits for a head, and returns its length. When the listener closes, it is not waited for on a kept connection, unless the
    /// kernel has some of it already.
    async fn head(&mut self, mut closed: Pin<&mut WaitForCancellationFuture<'_>>) -> Result<usize, NoHead> {
        let (idle, max_head) = {
            let table = &self.port.listening().table;
            (table.idle_timeout, table.limits.head_bytes as usize)
        };
        let mut scan = HeadScan::request(max_head);
        let mut begun = !self.client.inbound.is_empty();
        self.timer.set(Instant::now() + idle);
        loop {
            let skipped = empty_lines(self.client.inbound.bytes());
            if skipped > 0 {
                self.client.inbound.consume(skipped);
                scan = HeadScan::request(max_head);
            }
            let found = scan.find(self.client.inbound.bytes());
            if let Some(length) = found.map_err(|refusal| NoHead::Told(told(refusal)))? {
                return Ok(length);
            }
            self.client.inbound.release();
            poll_fn(|cx| self.poll_head(cx, closed.as_mut(), begun)).await?;
            // Until it begins the connection is idle; from then on, the head has to come as a whole in this time.
            if !std::mem::replace(&mut begun, true) {
                self.timer.set(Instant::now() + idle);
            }
        }
    }

    /// Most time without a byte.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.port.listening().table.idle_timeout
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        closed: Pin<&mut WaitForCancellationFuture<'_>>,
        begun: bool,
    ) -> Poll<Result<(), NoHead>> {
        match self.client.poll_read(cx) {
            Poll::Ready(Ok(read)) if read > 0 => return Poll::Ready(Ok(())),
            Poll::Ready(_) => return Poll::Ready(Err(NoHead::Ended)),
            Poll::Pending => {}
        }
        if closed.poll(cx).is_ready() {
            if self.requests > 0 && !begun && !self.client.has_spoken() {
                return Poll::Ready(Err(NoHead::Ended));
            }
            self.timer.bring_forward(Instant::now() + LAST_CALL);
        }
        let late = if begun { NoHead::Told(Reason::ClientTimeout) } else { NoHead::Ended };
        self.timer.poll(cx).map(|()| Err(late))
    }

    /// Does what is to be done with the request whose head has so many bytes.
    async fn request(&mut self, length: usize) -> After {
        let listening = self.port.listening();
        let head = self.client.inbound.bytes().get(..length).unwrap_or_default();
        let desk = Desk { connection: &self.client.connection, log: &self.shared.access_log };
        let ordered = desk.order(head, &listening.table, || Record::begin(listening.clone()));
        let (mut order, record) = match ordered {
            Ok(ordered) => ordered,
            Err(refusal) => {
                self.refuse(told(refusal)).await;
                return After::End;
            }
        };
        let client = self.client.connection.client;
        let mut request = Request { record, log: &self.shared.access_log, client };
        self.client.inbound.consume(length);
        self.requests += 1;
        let last = self.requests >= request.record.listening.table.limits.requests_per_connection;
        order.terms.keep_alive &= !last && !self.port.is_leaving();
        match order.deed {
            Deed::Answer(answer) => {
                self.reply(&answer, order.terms, Body::new(order.framing), &mut request).await
            }
            Deed::Forward(head) => {
                let mut upload = Upload::new(head, order.framing);
                self.forward(&mut upload, (&order.method, order.terms), &mut request).await
            }
        }
    }

    /// Tells a client that its request is not taken.
    async fn refuse(&mut self, reason: Reason) {
        let listening = self.port.listening();
        record::refused(&listening, &self.client.connection, &self.shared.access_log, reason);
        self.reject(reason).await;
    }
}

fn told(refusal: Refusal) -> Reason {
    tracing::debug!(%refusal, "a request is refused");
    refusal.reason()
}
