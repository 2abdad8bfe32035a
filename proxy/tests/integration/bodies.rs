//! Bodies of all lengths, delimited and cut in all ways, over connections that break on either side: what arrives is what
//! was sent, byte for byte, or visibly not all of it. Both ends know by a number in the path what the other one sends.
//!
//! `EVENKEEL_BODIES=1000000` plays more than a few, and says how many and what memory the proxy has meanwhile
//! (`make bodies`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::harness::{forwarding, local, target};
use crate::process::Process;
use crate::target::Target;

mod client;
mod plan;
mod server;
mod wire;

use plan::Plan;

/// So many unless the environment says otherwise.
const FEW: u64 = 3_000;
/// Clients at the same time. An eighth of them speaks HTTP/2.
const CLIENTS: u64 = 16;
/// An exchange that takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);
/// The proxy may have so much more memory at the end than after the first tenth.
const GROWTH: u64 = 16 * 1024 * 1024;

/// What came of it, at both ends.
#[derive(Debug, Default)]
struct Tally {
    /// Exchanges that are over.
    over: AtomicU64,
    /// Requests and answers that arrived whole.
    whole: [AtomicU64; 2],
    /// Requests and answers of which a part arrived.
    cut: [AtomicU64; 2],
    /// Exchanges without an answer of the target's.
    unanswered: AtomicU64,
    wrong: parking_lot::Mutex<Vec<String>>,
}

const REQUEST: usize = 0;
const ANSWER: usize = 1;

impl Tally {
    /// Notes what arrived of what was sent; what arrived in part must be `expected` to.
    fn arrived(&self, what: usize, plan: &Plan, (body, whole): (&[u8], bool), cut_is_expected: bool) {
        let sent = if what == REQUEST { plan.request.body() } else { plan.answer.body() };
        let wrong = match whole {
            true if body == sent => None,
            true => Some("it is another"),
            false if !sent.starts_with(body) => Some("its beginning is another"),
            false if !cut_is_expected => Some("it is cut"),
            false => None,
        };
        let counters = if whole { &self.whole } else { &self.cut };
        counters[what].fetch_add(1, Ordering::Relaxed);
        if let Some(wrong) = wrong {
            let name = if what == REQUEST { "request" } else { "answer" };
            self.wrong(plan, &format!("{name}: {wrong}, {} bytes of {}", body.len(), sent.len()));
        }
    }

    fn wrong(&self, plan: &Plan, problem: &str) {
        self.wrong.lock().push(format!("{problem}\n  {plan:?}"));
    }

    fn all(counters: &[AtomicU64; 2]) -> [u64; 2] {
        counters.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Plays exchanges until there are enough, each client over as few connections as it can.
async fn play(port: u16, count: u64, tally: &Arc<Tally>) {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (next, tally) = (next.clone(), tally.clone());
        clients.spawn(async move {
            let mut client =
                if number % 8 == 0 { client::Client::h2(port) } else { client::Client::http1(port) };
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return;
                }
                let plan = Plan::of(seed);
                if tokio::time::timeout(HANGS, client.play(&plan, &tally)).await.is_err() {
                    tally.wrong(&plan, "it hangs");
                }
                tally.over.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    clients.join_all().await;
}

/// Says from time to time how far it is and what memory the proxy has; in the end, how that has grown after a tenth.
async fn watch(process: &Process, count: u64, tally: &Tally) -> u64 {
    let mut after_a_tenth = None;
    let mut shown = 0;
    loop {
        let over = tally.over.load(Ordering::Relaxed);
        let memory = process.memory();
        if over * 10 >= count {
            after_a_tenth = after_a_tenth.or(Some(memory));
        }
        if over * 20 / count > shown && count > FEW {
            shown = over * 20 / count;
            eprintln!("{over} exchanges, {} KiB", memory / 1024);
        }
        if over == count {
            return memory.saturating_sub(after_a_tenth.unwrap_or(memory));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_arrive_as_they_were_sent_or_visibly_not_at_all() {
    let count = std::env::var("EVENKEEL_BODIES").map_or(FEW, |count| count.parse().expect("a number"));
    let tally = Arc::new(Tally::default());
    let serve =
        |tally: Arc<Tally>| Target::tcp(move |socket: TcpStream| server::serve(socket, tally.clone()));
    let targets = [serve(tally.clone()).await, serve(tally.clone()).await];
    let lines: Vec<_> = targets.iter().map(|each| target(&each.port.to_string(), each.port)).collect();
    let snapshot = |port| forwarding(port, &lines).replace("idleTimeout: 2s", "idleTimeout: 50s");
    let process = Process::start(snapshot, &[]).await;
    until_served(process.port).await;
    let (growth, ()) = tokio::join!(watch(&process, count, &tally), play(process.port, count, &tally));
    let wrong = tally.wrong.lock().clone();
    assert!(
        wrong.is_empty(),
        "{} of {count} are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    let (whole, cut) = (Tally::all(&tally.whole), Tally::all(&tally.cut));
    let unanswered = tally.unanswered.load(Ordering::Relaxed);
    eprintln!(
        "of {count}: whole {whole:?}, cut {cut:?}, unanswered {unanswered}, memory grown by {growth} bytes"
    );
    assert!(whole.iter().all(|whole| *whole > count * 7 / 10), "whole: {whole:?}");
    assert!(cut.iter().all(|cut| *cut > count / 200) && unanswered > 0, "cut: {cut:?}, {unanswered}");
    assert!(count <= FEW || growth <= GROWTH, "memory grows: {growth} bytes");
}

/// Waits until the targets have passed their checks.
async fn until_served(port: u16) {
    let looking = async {
        while crate::client::get(local(port), "/").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANGS, looking).await.expect("the targets are healthy");
}
