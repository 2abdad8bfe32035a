//! One attempt of one request at one target: the request goes up while the answer comes down, in whatever order the two
//! sides see fit, and a tunnel is the same without an end in sight.
//!
//! ```text
//! client ─► inbound ─► upload ─► target        one task, no channels: both directions are polled in turn
//! client ◄─ download ◄─ answer ◄─ target       until neither moves, then whatever wakes first
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::Client;
use super::timer::Timer;
use crate::errors::Reason;
use crate::record::Record;

mod download;
mod upload;

pub(super) use download::{Download, Terms};
pub(super) use upload::Upload;

/// A client that has closed its side may still want its answer, or be gone: which of the two only a write would tell. It is
/// taken for gone when it has been given nothing for so long.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// The parts of an attempt under way.
pub(super) struct Exchange<'x> {
    pub(super) client: &'x mut Client,
    pub(super) target: TcpStream,
    pub(super) upload: &'x mut Upload,
    pub(super) download: Download,
    pub(super) record: &'x mut Record,
    pub(super) timer: &'x mut Timer,
    /// Most time without a byte.
    pub(super) idle: Duration,
    /// When a byte last passed towards the target, and towards the client.
    pub(super) passed: [Instant; 2],
}

impl Exchange<'_> {
    /// Goes on as far as it goes. Ready when the answer is complete, or when there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let (mut up, mut down) = (false, false);
        loop {
            let moved_up = match self.upload.poll(self.client, &mut self.target, self.record, cx) {
                Ok(moved) => moved,
                Err(reason) => return Poll::Ready(Err(reason)),
            };
            let moved_down = match self.poll_download(cx) {
                Ok(moved) => moved,
                Err(reason) => return Poll::Ready(Err(reason)),
            };
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            if !moved_up && !moved_down {
                break;
            }
            up |= moved_up;
            down |= moved_down;
        }
        if let Err(reason) = self.watch_client(cx) {
            return Poll::Ready(Err(reason));
        }
        self.note_progress(up, down);
        let (deadline, reason) = self.deadline();
        self.timer.set(deadline);
        self.timer.poll(cx).map(|()| Err(reason))
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Result<bool, Reason> {
        if self.upload.is_sent() {
            self.download.has_request();
        }
        let moved = self.download.poll(self.client, &mut self.target, self.record, cx)?;
        if self.download.is_tunnel() && !self.upload.is_tunnel() {
            self.upload.begin_tunnel(&self.target);
        }
        Ok(moved)
    }

    /// A tunnel is over when both sides have said everything, everything else with its answer.
    fn is_over(&self) -> bool {
        self.download.is_over() && (!self.upload.is_tunnel() || self.upload.is_over())
    }

    /// Notices that a client goes away while it waits, and takes in what it sends ahead.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        if !self.upload.is_over() || self.upload.is_tunnel() {
            return Ok(());
        }
        while !self.client.ended && !self.client.inbound.is_full() {
            match self.client.poll_read(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Reason::ClientClosed),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn note_progress(&mut self, up: bool, down: bool) {
        if up || down {
            let now = Instant::now();
            let [up_since, down_since] = &mut self.passed;
            if up {
                *up_since = now;
            }
            if down {
                *down_since = now;
            }
        }
    }

    /// By when something must pass, and whose fault it is if nothing does.
    fn deadline(&self) -> (Instant, Reason) {
        let [up, down] = self.passed;
        let last = up.max(down);
        if self.upload.is_tunnel() {
            return (last + self.idle, Reason::IdleTimeout);
        }
        if self.client.ended {
            return (last + self.idle.min(HALF_CLOSED), Reason::ClientClosed);
        }
        let answering = if self.download.is_blocked() {
            (down + self.idle, Reason::ClientClosed)
        } else {
            (last + self.idle, Reason::TargetTimeout)
        };
        if self.upload.is_over() {
            return answering;
        }
        // A target that waits for the rest of the request is not the one that is late.
        let reason = if self.upload.is_blocked() { Reason::TargetTimeout } else { Reason::ClientTimeout };
        let asking = (up + self.idle, reason);
        if self.download.is_blocked() && answering.0 < asking.0 { answering } else { asking }
    }
}

/// Writes to a target.
fn poll_write(target: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
    tokio::io::AsyncWrite::poll_write(Pin::new(target), cx, bytes)
}
