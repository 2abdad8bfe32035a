use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::fake;

/// A Lease as the API server keeps it; while `away`, nobody gets an answer but 500.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    away: bool,
}

impl Server {
    fn answer(&mut self, asked: &fake::Asked) -> (u16, Value) {
        if self.away {
            return fake::refusal(500, "InternalError", "away");
        }
        let current = self.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        match asked.what.split(' ').next() {
            Some("GET") => match &self.lease {
                Some(lease) => (200, lease.clone()),
                None => fake::refusal(404, "NotFound", "not found"),
            },
            Some("POST") if self.lease.is_some() => fake::refusal(409, "AlreadyExists", "exists"),
            Some("PUT") if current.as_ref() != Some(&asked.body["metadata"]["resourceVersion"]) => {
                fake::refusal(409, "Conflict", "changed")
            }
            _ => {
                self.version += 1;
                let mut lease = asked.body.clone();
                lease["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(lease.clone());
                (200, lease)
            }
        }
    }
}

type Shared = Arc<Mutex<Server>>;

/// A candidate that runs, and the epochs in which it led: none while it does not lead.
struct Running {
    leads: watch::Receiver<Option<u64>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(server: &Shared, identity: &str) -> Running {
    let server = server.clone();
    let (client, _log) = fake::client(move |asked| server.lock().answer(asked));
    let candidate = Candidate::new(Api::namespaced(client, "default"), identity.into(), Timing::default());
    let (sender, leads) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        let term = |epoch, stop: CancellationToken| {
            let leading = Leading::new(sender.clone(), epoch);
            async move {
                stop.cancelled().await;
                drop(leading);
            }
        };
        candidate.run(term, stop).await;
    });
    Running { leads, shutdown, task }
}

/// Says that it leads, until it is dropped.
struct Leading(watch::Sender<Option<u64>>);

impl Leading {
    fn new(sender: watch::Sender<Option<u64>>, epoch: u64) -> Self {
        sender.send_replace(Some(epoch));
        Self(sender)
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

impl Running {
    async fn leads(&mut self) -> u64 {
        self.leads.wait_for(Option::is_some).await.unwrap().unwrap()
    }

    async fn leads_no_more(&mut self) {
        // The sender is gone when the candidate is.
        let _ = self.leads.wait_for(Option::is_none).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_after_its_crash_the_other_does_within_eight_seconds() {
    let server = Shared::default();
    let mut first = run(&server, "first");
    let epoch = first.leads().await;
    let mut second = run(&server, "second");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*second.leads.borrow(), None, "two would lead");
    assert_eq!(first.leads().await, epoch, "a term lasts as long as it is renewed");

    first.task.abort();
    let crashed = Instant::now();
    let next = second.leads().await;
    assert!(next > epoch);
    assert!(crashed.elapsed() <= Duration::from_secs(8), "{:?}", crashed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_gives_the_lease_to_the_other_at_once() {
    let server = Shared::default();
    let mut first = run(&server, "first");
    let epoch = first.leads().await;
    let mut second = run(&server, "second");
    sleep(Duration::from_secs(10)).await;
    let stopped = Instant::now();
    first.shutdown.cancel();
    assert_eq!(second.leads().await, epoch + 1);
    assert!(stopped.elapsed() <= Duration::from_secs(2), "{:?}", stopped.elapsed());
    first.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_stops_before_another_could_start() {
    let server = Shared::default();
    let mut leader = run(&server, "leader");
    let epoch = leader.leads().await;
    sleep(Duration::from_secs(10)).await;
    server.lock().away = true;
    let away = Instant::now();
    leader.leads_no_more().await;
    assert!(away.elapsed() < Timing::default().duration, "{:?}", away.elapsed());
    server.lock().away = false;
    assert!(leader.leads().await > epoch, "a term that was lost does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let server = Shared::default();
    let mut leader = run(&server, "leader");
    leader.leads().await;
    {
        let mut server = server.lock();
        server.version += 1;
        let version = server.version.to_string();
        let lease = server.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = "thief".into();
        lease["metadata"]["resourceVersion"] = version.into();
    }
    leader.leads_no_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_of_somebody_else_to_the_lease_ends_no_term() {
    let server = Shared::default();
    let mut leader = run(&server, "leader");
    let epoch = leader.leads().await;
    for _ in 0..3 {
        {
            let mut server = server.lock();
            server.version += 1;
            let version = server.version.to_string();
            let lease = server.lease.as_mut().unwrap();
            lease["metadata"]["annotations"]["a"] = "b".into();
            lease["metadata"]["resourceVersion"] = version.into();
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(*leader.leads.borrow_and_update(), Some(epoch));
    }
    assert!(!leader.leads.has_changed().unwrap(), "it led all the time");
}

#[tokio::test(start_paused = true)]
async fn the_first_term_after_somebody_deleted_the_lease_is_no_earlier_one() {
    let server = Shared::default();
    let mut first = run(&server, "first");
    let epoch = first.leads().await;
    first.shutdown.cancel();
    first.task.await.unwrap();
    server.lock().lease = None;
    assert!(run(&server, "second").leads().await >= epoch, "proxies would refuse it");
}
