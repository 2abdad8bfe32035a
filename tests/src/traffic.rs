//! Requests, and what became of each.
//!
//! A [`Load`] sends them, at a constant rate or as fast as they are answered, through a [`Client`], and records each
//! [`Outcome`](tally::Outcome) in a [`Recorder`]. At a constant rate the latency counts from when the request was due, not
//! from when there was time to send it, so that a stall is seen for what it is.

pub mod client;
pub mod http;
pub mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(doc)]
use crate::conditions::DEADLINE;
use crate::conditions::eventually;

pub use client::Client;
pub use tally::{Recorder, Tally};

/// So many requests may be unanswered before further ones wait.
const MAX_IN_FLIGHT: usize = 512;
/// From an error to the next request on the same connection.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// How fast requests follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many per second, whether or not earlier ones are answered.
    Rate(u32),
    /// On so many connections, each request as soon as the one before it is answered.
    Connections(usize),
    /// On so many connections, each request so long after the answer to the one before it.
    Turns(usize, Duration),
}

/// Requests that are being sent until it is stopped.
pub struct Load {
    recorder: Recorder,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Starts sending.
    pub fn start(client: &Client, pace: Pace, recorder: Recorder) -> Self {
        let load = Self { recorder, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        match pace {
            Pace::Rate(rate) => load.send_at(client.clone(), rate),
            Pace::Connections(connections) => load.send_in_turn(client, connections, Duration::ZERO),
            Pace::Turns(connections, pause) => load.send_in_turn(client, connections, pause),
        }
        load
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.recorder.total()
    }

    /// Waits until so many further requests have an outcome.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn further(&self, requests: u64) -> Result<()> {
        let before = self.tally().requests;
        eventually(&format!("{requests} further requests"), async || {
            let tally = self.tally();
            ensure!(
                tally.requests >= before + requests,
                "only {} further ones; {tally}",
                tally.requests - before
            );
            Ok(())
        })
        .await
    }

    /// Sends nothing more, waits for the answers to what was sent, and returns everything that was counted.
    pub async fn stop(self) -> Tally {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.recorder.total()
    }

    /// As [`Self::stop`], for requests none of which may have failed.
    ///
    /// # Errors
    /// With everything that was counted, when one failed.
    pub async fn succeeded(self) -> Result<Tally> {
        let tally = self.stop().await;
        ensure!(tally.failed() == 0, "{tally}");
        Ok(tally)
    }

    fn send_at(&self, client: Client, rate: u32) {
        let (stop, tasks, recorder) = (self.stop.clone(), self.tasks.clone(), self.recorder.clone());
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let start = Instant::now();
        let due = move |i: u32| start + Duration::from_secs(1) / rate.max(1) * i;
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            for due in (0..).map(due) {
                sleep_until(due.into()).await;
                let Ok(slot) = in_flight.clone().acquire_owned().await else { return };
                let (mut session, recorder) = (client.session(), recorder.clone());
                tasks.spawn(async move {
                    let answer = session.exchange().await;
                    recorder.record(&answer, due, Instant::now());
                    drop(slot);
                });
            }
        }));
    }

    fn send_in_turn(&self, client: &Client, connections: usize, pause: Duration) {
        for _ in 0..connections {
            let (stop, recorder, mut session) = (self.stop.clone(), self.recorder.clone(), client.session());
            self.tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let start = Instant::now();
                    let answer = session.exchange().await;
                    recorder.record(&answer, start, Instant::now());
                    // What refuses connections must not be asked a million times a second.
                    let pause = if answer.is_err() { pause.max(AFTER_ERROR) } else { pause };
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
        }
    }
}
