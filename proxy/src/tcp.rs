//! The carrier for TCP: one target for each connection, bytes in both directions.
//!
//! Each direction's end is passed on by itself: a client that has said everything still gets its answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::access_log::Entry;
use crate::action::Action;
use crate::carrier::Shared;
use crate::connect::{be_patient, connect};
use crate::errors::Reason;
use crate::group::Group;
use crate::metrics::Present;
use crate::pick::{Outcome, Picked, connect_timeout, grants_another, pick};
use crate::port::Listening;
use crate::record::milliseconds;
use crate::retry::MAX_ATTEMPTS;
use crate::stream::{Connection, silent};

mod relay;

use relay::Relay;

/// Serves TCP connections of every listener.
#[derive(Debug)]
pub struct TcpCarrier {
    shared: Shared,
}

/// How a session went.
#[derive(Debug)]
struct Session {
    time: jiff::Timestamp,
    began: Instant,
    group: Option<Arc<str>>,
    target: Option<std::net::SocketAddr>,
    attempts: u32,
    latency: Option<Duration>,
    reason: Option<Reason>,
}

impl Session {
    fn begin() -> Self {
        Self {
            time: jiff::Timestamp::now(),
            began: Instant::now(),
            group: None,
            target: None,
            attempts: 0,
            latency: None,
            reason: None,
        }
    }
}

impl TcpCarrier {
    /// With this log.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Serves a client's connection until it ends.
    pub async fn serve(&self, socket: TcpStream, connection: Arc<Connection>, listening: &Listening) {
        let _in_flight = Present::count(&listening.metrics.in_flight);
        let session = self.run(socket, &connection, listening).await;
        if let Some(reason) = session.reason {
            listening.metrics.count_error(reason);
        }
        listening.metrics.duration.observe(session.began.elapsed());
        self.log(&connection, listening, session);
    }

    async fn run(&self, socket: TcpStream, connection: &Arc<Connection>, listening: &Listening) -> Session {
        let mut session = Session::begin();
        // Only forwarding makes sense for bytes; the table is refused where a TCP listener says otherwise.
        let Action::Forward(forward) = &listening.table.default_action else { return session };
        let Some(group) = forward.choose(&mut fastrand::Rng::new()) else {
            session.reason = Some(Reason::NoTarget);
            return session;
        };
        session.group = Some(group.name().into());
        match self.connect(group, &mut session).await {
            Ok((target, picked)) => {
                let relay = Relay::new(socket, target, connection, &listening.metrics);
                session.reason = pass(relay, connection, listening.table.idle_timeout, &picked).await;
                let failed = session.reason.is_some_and(Reason::blames_target);
                picked.finish(if failed { Outcome::Failed } else { Outcome::Succeeded }, session.latency);
            }
            Err(reason) => session.reason = Some(reason),
        }
        session
    }

    /// Connects to a target, and to another one where that fails: no byte of the client's is lost thereby.
    async fn connect(&self, group: &Group, session: &mut Session) -> Result<(TcpStream, Picked), Reason> {
        let mut tried = Vec::new();
        let mut reason = Reason::NoTarget;
        group.budget().deposit();
        while session.attempts < MAX_ATTEMPTS {
            let Ok(mut picked) = pick(group, &tried) else { return Err(reason) };
            let endpoint = Arc::clone(picked.endpoint());
            session.attempts += 1;
            session.target = Some(endpoint.address);
            let timeout = connect_timeout(group, &tried, &endpoint, session.attempts);
            let began = Instant::now();
            match connect(endpoint.address, timeout).await {
                Ok(target) => {
                    be_patient(&target);
                    picked.answered();
                    session.latency = Some(began.elapsed());
                    return Ok((target, picked));
                }
                Err(failed) => reason = failed,
            }
            picked.failed_to_connect(reason);
            picked.finish(Outcome::Failed, None);
            if !grants_another(group, &tried, &endpoint, self.shared.started.elapsed()) {
                break;
            }
            tried.push(endpoint);
        }
        Err(reason)
    }

    fn log(&self, connection: &Connection, listening: &Listening, session: Session) {
        if !self.shared.access_log.is_on() {
            return;
        }
        let Session { time, began, group, target, attempts, latency, reason } = session;
        self.shared.access_log.log(Entry {
            time,
            listener: listening.metrics.name.clone(),
            protocol: "TCP",
            client: connection.client,
            method: None,
            host: None,
            path: None,
            user_agent: None,
            status: None,
            rule: None,
            target_group: group,
            target,
            attempts,
            duration_ms: milliseconds(began.elapsed()),
            target_ms: latency.map(milliseconds),
            received_bytes: connection.received(),
            sent_bytes: connection.sent(),
            reason: reason.map(Reason::as_str),
        });
    }
}

/// Passes bytes on until both directions have ended, one breaks, nothing passes for `timeout`, or the target's drain reaches
/// its limit. Returns why it was cut off, if it was.
async fn pass(
    mut relay: Relay<'_>,
    connection: &Arc<Connection>,
    timeout: Duration,
    picked: &Picked,
) -> Option<Reason> {
    tokio::select! {
        passed = poll_fn(|cx| relay.poll(cx)) => match passed {
            Ok(()) => None,
            // Which side broke is not said; a reset is how many a session ends.
            Err(_) => Some(Reason::ClientClosed),
        },
        () = silent(connection.clone(), timeout) => Some(Reason::IdleTimeout),
        () = picked.closing() => Some(Reason::DrainDeadline),
    }
}
