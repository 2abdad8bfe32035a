//! A steady load of every protocol: 1,000 requests a second, long ones always in flight, sessions that stay open.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::ports::NodePort;
use crate::traffic::{Client, Load, Pace, Recorder, Tally};

/// What a session says, how often.
const TURN: Duration = Duration::from_millis(100);

/// The most frequent requests, which are answered at once.
pub const QUICK: &str = "GET";
const GETS_PER_SECOND: u32 = 500;
const POSTS: Pace = Pace::Rate(400);
const H2C: Pace = Pace::Rate(100);
const SLOW: Pace = Pace::Connections(20);
const SESSIONS: Pace = Pace::Turns(2, TURN);

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything.
    Everything,
    /// Only what is answered within milliseconds: next to nothing is in flight.
    Quick,
}

/// The load while it runs.
pub struct Steady {
    requests: BTreeMap<&'static str, Load>,
    sessions: BTreeMap<&'static str, Load>,
}

/// What became of it.
pub struct Counts {
    /// Of requests, by what they were.
    pub requests: BTreeMap<&'static str, Tally>,
    /// Of turns in sessions that stay open, by protocol: one that fails is the end of its session.
    pub sessions: BTreeMap<&'static str, Tally>,
}

impl Steady {
    /// Begins.
    pub fn start(http: &NodePort, echo: &NodePort, traffic: Traffic) -> Self {
        let start = |client: Client, pace| Load::start(&client, pace, Recorder::default());
        let websocket = Client::websocket(format!("ws://{}/ws", http.address()));
        let mut steady = Self {
            requests: [
                (QUICK, start(Client::http1(http.url("/")), Pace::Rate(GETS_PER_SECOND))),
                ("POST", start(Client::post(http.url("/echo"), "x".repeat(2048)), POSTS)),
                ("GET by h2c", start(Client::h2c(http.url("/")), H2C)),
            ]
            .into(),
            sessions: BTreeMap::new(),
        };
        if traffic == Traffic::Everything {
            steady.requests.insert("GET of 5 s", start(Client::http1(http.url("/slow?s=5")), SLOW));
            steady.sessions.insert("WebSocket", start(websocket, SESSIONS));
            steady.sessions.insert("TCP", start(Client::tcp(echo.address()), SESSIONS));
        }
        steady
    }

    /// Lets it run for about so many seconds, as measured by the requests that have an outcome.
    ///
    /// # Errors
    /// When requests have none.
    pub async fn run_on(&self, seconds: u64) -> Result<()> {
        let Some(gets) = self.requests.get(QUICK) else { return Ok(()) };
        for _ in 0..seconds {
            gets.further(u64::from(GETS_PER_SECOND)).await?;
        }
        Ok(())
    }

    /// Sends nothing more, and waits for what is in flight.
    pub async fn stop(self) -> Counts {
        let (requests, sessions) = tokio::join!(stop(self.requests), stop(self.sessions));
        Counts { requests, sessions }
    }
}

async fn stop(loads: BTreeMap<&'static str, Load>) -> BTreeMap<&'static str, Tally> {
    let stops = loads.into_iter().map(|(what, load)| async move { (what, load.stop().await) });
    futures::future::join_all(stops).await.into_iter().collect()
}
