//! A client's connection as Pingora reads and writes it: small writes gathered, bytes counted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;

use crate::headers::Origin;
use crate::metrics::ListenerMetrics;

/// Writes up to this many bytes are gathered until a flush: a head and a small body leave as one packet.
const WRITE_BUFFER: usize = 2 * 1024;

/// Who is at the ends of a client's connection, and what passed.
#[derive(Debug)]
pub struct Connection {
    /// The client.
    pub client: SocketAddr,
    /// What targets are told of it.
    pub origin: Origin,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Connection {
    /// From this client to this port.
    pub fn new(client: SocketAddr, port: u16) -> Self {
        let origin = Origin::new(client.ip(), port);
        Self { client, origin, received: AtomicU64::new(0), sent: AtomicU64::new(0) }
    }

    /// Bytes from the client so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes to the client so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts bytes from the client.
    pub(crate) fn count_received(&self, bytes: usize, metrics: &ListenerMetrics) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        metrics.received.inc_by(bytes as u64);
    }

    /// Counts bytes to the client.
    pub(crate) fn count_sent(&self, bytes: usize, metrics: &ListenerMetrics) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        metrics.sent.inc_by(bytes as u64);
    }

    fn passed(&self) -> u64 {
        self.received() + self.sent()
    }
}

/// Ready once nothing has passed, in neither direction, for `timeout`. It looks four times in that time, so it may take a
/// quarter longer.
pub async fn silent(connection: Arc<Connection>, timeout: Duration) {
    const LOOKS: u32 = 4;
    let mut passed = connection.passed();
    let mut quiet = 0;
    while quiet < LOOKS {
        tokio::time::sleep(timeout / LOOKS).await;
        let now = connection.passed();
        quiet = if now == passed { quiet + 1 } else { 0 };
        passed = now;
    }
}

/// A client's connection whose protocol is known.
#[derive(Debug)]
pub struct Opened {
    /// The socket.
    pub socket: TcpStream,
    /// What was read from it to find out.
    pub begun: Vec<u8>,
    /// Whether it is HTTP/2.
    pub h2: bool,
}

/// Whether a flush waits for what others have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gathers {
    /// It does not.
    Never,
    /// The next one will.
    Next,
    /// One does, until whoever flushed is run again, or has been for long: the socket takes no more.
    Now,
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    io: BufWriter<TcpStream>,
    /// What comes before the bytes that are still to be read.
    begun: Bytes,
    gathers: Gathers,
    connection: Arc<Connection>,
    metrics: Arc<ListenerMetrics>,
}

impl ClientStream {
    /// Over this socket.
    pub fn new(socket: TcpStream, connection: Arc<Connection>, metrics: Arc<ListenerMetrics>) -> Self {
        let io = BufWriter::with_capacity(WRITE_BUFFER, socket);
        Self { io, begun: Bytes::new(), gathers: Gathers::Never, connection, metrics }
    }

    /// The same, where a flush waits until every task that could run has run: what many streams of a connection have to say
    /// in that time leaves in one packet. For who reads again after each flush, as h2 does.
    #[must_use]
    pub fn gathering(self) -> Self {
        Self { gathers: Gathers::Next, ..self }
    }

    /// The same, from which these bytes, which were read and counted already, are read first.
    #[must_use]
    pub fn after(self, begun: Vec<u8>) -> Self {
        Self { begun: begun.into(), ..self }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if self.gathers != Gathers::Never {
            self.gathers = if flushed.is_ready() { Gathers::Next } else { Gathers::Now };
        }
        flushed
    }

    fn count_sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.count_sent(bytes, &self.metrics);
        }
        written
    }
}

impl AsyncRead for ClientStream {
    /// Whoever waits for the client has said what there is to say for now: it is sent. Pingora itself flushes an answer of
    /// known length only at its end, so a slow one would be stuck here.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.io.buffer().is_empty()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        if !self.begun.is_empty() {
            let length = self.begun.len().min(buf.remaining());
            buf.put_slice(&self.begun.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.connection.count_received(buf.filled().len() - before, &self.metrics);
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count_sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count_sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathers == Gathers::Next && !self.io.buffer().is_empty() {
            self.gathers = Gathers::Now;
            // Behind all others that can run: then it reads, and what was gathered is sent.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // The client may be gone already: there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.io.get_ref().as_raw_fd()
    }
}

impl Ssl for ClientStream {}

/// Without it Pingora takes the protocol that the accept loop found by peeking at the socket.
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::task::{ArcWake, waker_ref};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::metrics::Metrics;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn gathering() -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (near, client) = near.unwrap();
        near.writable().await.unwrap();
        let connection = Arc::new(Connection::new(client, 80));
        let metrics = Arc::new(Metrics::default().listener("http"));
        (ClientStream::new(near, connection, metrics).gathering(), far.unwrap())
    }

    #[tokio::test]
    async fn what_is_said_until_the_next_read_leaves_at_once() {
        let (mut stream, far) = gathering().await;
        let woken = Arc::new(Woken::default());
        let waker = waker_ref(&woken);
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut stream).poll_write(&mut cx, b"one, ").is_ready());
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it is run again");
        assert!(Pin::new(&mut stream).poll_write(&mut cx, b"two").is_ready());
        let mut nothing = [0; 1];
        assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut nothing)).is_pending());
        far.readable().await.unwrap();
        let mut heard = [0; 16];
        let length = far.try_read(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"one, two");
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_waited_for() {
        let (mut stream, _far) = gathering().await;
        let woken = Arc::new(Woken::default());
        let waker = waker_ref(&woken);
        let mut cx = Context::from_waker(&waker);
        while Pin::new(&mut stream).poll_write(&mut cx, &[0; 1_000]).is_ready() {}
        let mut nothing = [0; 1];
        assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut nothing)).is_pending());
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "it is not run again and again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_silent_when_nothing_passed_for_the_whole_time() {
        let address = "127.0.0.1:1".parse().unwrap();
        let connection = Arc::new(Connection::new(address, 80));
        let began = Instant::now();
        let silent = tokio::spawn(silent(connection.clone(), Duration::from_secs(60)));
        tokio::time::sleep(Duration::from_secs(50)).await;
        connection.received.fetch_add(1, Ordering::Relaxed);
        silent.await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(120), "seen at 60 s, and a whole time after that");
    }
}
