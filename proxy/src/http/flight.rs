//! One request under way, and what may end it from outside: its target's drain deadline, its tunnel's silence, or, before
//! it has begun, its listener's closing.
//!
//! A flight is a wrapper around Pingora's future for one request. To end it is to drop that future: an HTTP/1 connection
//! closes, an HTTP/2 stream is reset, and the context's guards count down.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::context::Scope;
use crate::errors::Reason;

/// What the hooks tell the flight that they run in.
#[derive(Default)]
pub(super) struct Controls {
    begun: AtomicBool,
    taken_back: AtomicBool,
    ended: OnceLock<Reason>,
    target: Mutex<Option<BoxFuture<'static, ()>>>,
    tunnel: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Controls {
    /// A head has arrived: from here on the request is finished, also when its listener closes.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether a head has arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// The client has taken the request back at once.
    pub(super) fn take_back(&self) {
        self.taken_back.store(true, Ordering::Relaxed);
    }

    /// Whether the client has taken the request back at once.
    pub(super) fn is_taken_back(&self) -> bool {
        self.taken_back.load(Ordering::Relaxed)
    }

    /// The request is at this target: `closing` is ready when the target's drain deadline has passed.
    pub(super) fn watch_target(&self, closing: BoxFuture<'static, ()>) {
        *self.target.lock() = Some(closing);
    }

    /// The request has become a tunnel: `silent` is ready when nothing passed for too long.
    pub(super) fn watch_tunnel(&self, silent: BoxFuture<'static, ()>) {
        *self.tunnel.lock() = Some(silent);
    }

    /// Why the flight was ended from outside, if it was.
    pub(super) fn ended(&self) -> Option<Reason> {
        self.ended.get().copied()
    }

    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        for (watched, reason) in [(&self.target, Reason::DrainDeadline), (&self.tunnel, Reason::IdleTimeout)]
        {
            if watched.lock().as_mut().is_some_and(|watched| watched.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(reason);
            }
        }
        Poll::Pending
    }
}

/// Runs a request in this scope, until it is done or ended from outside.
pub(super) async fn fly<T>(scope: Scope, request: impl Future<Output = Option<T>>) -> Option<T> {
    let controls = scope.controls.clone();
    let port = scope.port.clone();
    let mut request = pin!(scope.enter(request));
    let mut closed = pin!(port.closed());
    poll_fn(move |cx| {
        if let Poll::Ready(done) = request.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if !controls.has_begun() {
            return closed.as_mut().poll(cx).map(|()| None);
        }
        controls.poll_end(cx).map(|reason| {
            let _ = controls.ended.set(reason);
            None
        })
    })
    .await
}
