//! Connections to a target that wait for their next request.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection that is not used is closed after so long: before the target does (Node.js: 5 s), or a request that is not
/// idempotent could be lost in between.
pub const MAX_IDLE: Duration = Duration::from_secs(4);

/// Most that are kept for one target.
const CAPACITY: usize = 256;

/// The connections of one target, the one used last at the end: those that load does not need grow old and are closed.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    socket: TcpStream,
    since: Instant,
}

impl IdleConnections {
    /// Takes one that the target has not closed meanwhile.
    pub(crate) fn take(&self, now: Instant) -> Option<TcpStream> {
        loop {
            let Idle { socket, since } = self.0.lock().pop()?;
            if now.saturating_duration_since(since) >= MAX_IDLE {
                // The others are older still.
                self.close();
                return None;
            }
            if is_quiet(&socket) {
                return Some(socket);
            }
        }
    }

    /// Keeps one.
    pub(crate) fn put(&self, socket: TcpStream, now: Instant) {
        let mut kept = self.0.lock();
        if kept.len() < CAPACITY {
            kept.push(Idle { socket, since: now });
        }
    }

    /// Closes those that were not used for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let mut kept = self.0.lock();
        let old = kept.partition_point(|idle| now.saturating_duration_since(idle.since) >= MAX_IDLE);
        kept.drain(..old);
    }

    /// Closes all.
    pub(crate) fn close(&self) {
        self.0.lock().clear();
    }
}

/// Whether the target has neither closed the connection nor said anything. Costs no system call as a rule: the runtime
/// knows that there is nothing.
fn is_quiet(socket: &TcpStream) -> bool {
    let read = socket.try_read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn the_connection_used_last_is_used_next() {
        let idle = IdleConnections::default();
        let now = Instant::now();
        let (first, _far) = connected().await;
        let (second, _far_too) = connected().await;
        let address = second.local_addr().unwrap();
        idle.put(first, now);
        idle.put(second, now);
        assert_eq!(idle.take(now).unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn one_that_was_closed_or_spoke_unasked_is_not_used() {
        let idle = IdleConnections::default();
        let (closed, far) = connected().await;
        let (spoke, mut far_too) = connected().await;
        drop(far);
        far_too.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        for socket in [closed, spoke] {
            socket.readable().await.unwrap();
            idle.put(socket, Instant::now());
        }
        assert!(idle.take(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn those_that_load_does_not_need_grow_old() {
        let idle = IdleConnections::default();
        let start = Instant::now();
        let (old, _far) = connected().await;
        let (young, _far_too) = connected().await;
        let address = young.local_addr().unwrap();
        idle.put(old, start);
        idle.put(young, start + Duration::from_secs(3));
        idle.expire(start + MAX_IDLE);
        assert_eq!(idle.take(start + MAX_IDLE).unwrap().local_addr().unwrap(), address);
        let (another, _far) = connected().await;
        idle.put(another, start);
        assert!(idle.take(start + MAX_IDLE).is_none());
    }
}
