//! A request on its way to a target, or to several in turn.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use http::Method;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::exchange::{Download, Exchange, Terms, Upload};
use super::session::{After, Request, Session};
use crate::answer::Answer;
use crate::connect;
use crate::errors::Reason;
use crate::group::Endpoint;
use crate::record::Record;
use crate::retry::Failure;

/// How an attempt ended, and what it leaves.
struct Attempt {
    result: Result<(), Reason>,
    download: Download,
    target: TcpStream,
}

impl Session<'_> {
    /// Passes a request on, and its answer back.
    pub(super) async fn forward(
        &mut self,
        upload: &mut Upload,
        (method, terms): (&Method, Terms),
        request: &mut Request<'_>,
    ) -> After {
        if !request.record.pick_first() {
            request.record.reason = Some(Reason::NoTarget);
            let rest = upload.rest(&mut self.client);
            return self.reply(&Answer::error(Reason::NoTarget), terms, rest, request).await;
        }
        let mut fresh = false;
        loop {
            request.record.attempt();
            let Some(endpoint) = request.record.picked.as_ref().map(|picked| Arc::clone(picked.endpoint()))
            else {
                return After::End;
            };
            let target = match connect(&endpoint, fresh, &request.record).await {
                Ok(connected) => connected,
                Err(reason) if self.goes_elsewhere(reason, method, upload, request) => continue,
                Err(reason) => return self.fail(reason, request).await,
            };
            upload.begin(method.is_idempotent());
            let attempt = self.attempt(&endpoint, target, (upload, terms), request).await;
            let Err(reason) = attempt.result else {
                return self.complete(&endpoint, attempt, upload, request).await;
            };
            let failure = Failure::Exchange { answer_begun: attempt.download.has_begun() };
            request.record.reason = Some(reason);
            // A target that is slow or talks nonsense will do so again. But where one closed a connection, because it is gone or
            // the request came when it closed an idle one, another may serve, or the same one over a new connection.
            let now = self.shared.started.elapsed();
            if reason != Reason::TargetClosed
                || !request.record.may_retry(failure, method, upload.left(), now)
            {
                return self.broke(reason, &attempt.download, request).await;
            }
            request.record.move_on();
            fresh = true;
        }
    }

    /// There was no connection. Whether the request is tried again.
    fn goes_elsewhere(
        &self,
        reason: Reason,
        method: &Method,
        upload: &Upload,
        request: &mut Request<'_>,
    ) -> bool {
        let record = &mut request.record;
        record.not_connected(reason);
        let now = self.shared.started.elapsed();
        record.may_retry(Failure::Connect, method, upload.left(), now) && record.try_elsewhere()
    }

    async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        target: TcpStream,
        (upload, terms): (&mut Upload, Terms),
        request: &mut Request<'_>,
    ) -> Attempt {
        let idle = request.record.listening.table.idle_timeout;
        let mut exchange = Exchange {
            client: &mut self.client,
            target,
            upload,
            download: Download::new(terms),
            record: &mut request.record,
            timer: &mut self.timer,
            idle,
            passed: [Instant::now(); 2],
        };
        let mut closing = pin!(endpoint.cell.closing());
        let result = poll_fn(|cx| {
            let exchanged = exchange.poll(cx);
            if exchanged.is_pending() {
                return closing.as_mut().poll(cx).map(|()| Err(Reason::DrainDeadline));
            }
            exchanged
        });
        let result = result.await;
        let Exchange { download, target, .. } = exchange;
        Attempt { result, download, target }
    }

    /// The client has its answer.
    async fn complete(
        &mut self,
        endpoint: &Endpoint,
        attempt: Attempt,
        upload: &mut Upload,
        request: &mut Request<'_>,
    ) -> After {
        let Attempt { download, target, .. } = attempt;
        if download.is_reusable() && upload.is_sent() && !endpoint.cell.draining() {
            endpoint.idle.put(target, Instant::now());
        }
        request.over();
        if upload.is_sent() {
            return if download.keeps_client() { After::GoOn } else { After::End };
        }
        let rest = upload.rest(&mut self.client);
        if download.keeps_client() && self.swallow(rest).await {
            return After::GoOn;
        }
        self.linger().await;
        After::End
    }

    /// The attempt broke, and there is no other.
    async fn broke(&mut self, reason: Reason, download: &Download, request: &mut Request<'_>) -> After {
        if reason == Reason::ClientClosed {
            return After::End;
        }
        if download.is_told() {
            if download.ends_with_connection() {
                self.client.break_off();
            }
            return After::End;
        }
        self.fail(reason, request).await
    }

    /// Tells the client why there is no answer.
    async fn fail(&mut self, reason: Reason, request: &mut Request<'_>) -> After {
        let answer = Answer::error(reason);
        request.record.status = Some(reason.status());
        request.record.sent_bytes = answer.body.len() as u64;
        request.over();
        self.reject(reason).await;
        After::End
    }
}

/// A connection to the target that a request is at; with `fresh` one that has not served requests before.
async fn connect(endpoint: &Endpoint, fresh: bool, record: &Record) -> Result<TcpStream, Reason> {
    if !fresh && let Some(socket) = endpoint.idle.take(Instant::now()) {
        return Ok(socket);
    }
    connect::connect(endpoint.address, record.connect_timeout()).await
}
