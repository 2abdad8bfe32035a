//! Targets that hang: they accept nothing more, or accept and never answer. Checks take seconds to find that out; signs
//! do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evenkeel_proxy::in_force::look;
use evenkeel_proxy::proxy::{Http1Through, Proxy, Settings};
use futures::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::Notify;

use crate::client::{get, send};
use crate::harness::{forwarding, free_port, group, in_flight, local, serve_with, settings, target, until};
use crate::target::{Clogged, Target};

const CARRIERS: [Http1Through; 2] = [Http1Through::Http1, Http1Through::HttpProxy];

async fn serve_through(http1: Http1Through, snapshot: &str) -> Proxy {
    serve_with(snapshot, Settings { http1, ..settings() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_accepts_nothing_more_costs_no_request_however_many_come_at_once() {
    for carrier in CARRIERS {
        let (clogged, alive) = (Clogged::up().await, Target::saying("alive").await);
        let port = free_port();
        let targets = [target("clogged", clogged.port()), target("live", alive.port)];
        let proxy = serve_through(carrier, &forwarding(port, &targets)).await;
        let posts = (0..200).map(|_| send(local(port), Request::post("/").body("a body").unwrap()));
        let answers = join_all(posts).await;
        assert!(answers.iter().all(|answer| answer.text() == "alive"), "{carrier:?}");
        let failures = group(&proxy).stats().connect_failures();
        for _ in 0..10 {
            assert_eq!(get(local(port), "/").await.text(), "alive");
        }
        assert_eq!(group(&proxy).stats().connect_failures(), failures, "{carrier:?}: it is tried no more");
        until("nothing is in flight", || in_flight(&proxy) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_somewhere_else_to_go_does_not_wait_long_for_a_connection() {
    for carrier in CARRIERS {
        let (clogged, alive) = (Clogged::up().await, Target::saying("alive").await);
        let port = free_port();
        let targets = [target("clogged", clogged.port()), target("live", alive.port)];
        let proxy = serve_through(carrier, &forwarding(port, &targets)).await;
        let began = Instant::now();
        for _ in 0..2 {
            assert_eq!(get(local(port), "/").await.text(), "alive");
        }
        assert!(began.elapsed() < Duration::from_millis(1_900), "{carrier:?}: {:?}", began.elapsed());
        let stats = || (group(&proxy).stats().connect_failures(), group(&proxy).stats().suspicions());
        assert_eq!(stats(), (1, 1), "{carrier:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_connection_came_in_time_and_there_is_nobody_else_it_is_tried_again() {
    for carrier in CARRIERS {
        let clogged = Clogged::up().await;
        let port = free_port();
        let proxy = serve_through(carrier, &forwarding(port, &[target("t", clogged.port())])).await;
        let asking = tokio::spawn(async move { get(local(port), "/").await });
        until("the first attempt failed", || group(&proxy).stats().connect_failures() == 1).await;
        let _serving = clogged.serve("late");
        assert_eq!(asking.await.unwrap().text(), "late", "{carrier:?}");
    }
}

/// Answers until it hangs, and what it has got meanwhile when it goes on.
struct Sleeper {
    target: Target,
    asleep: Arc<AtomicBool>,
    woken: Arc<Notify>,
}

impl Sleeper {
    async fn start() -> Self {
        let (asleep, woken) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (sleeps, wakes) = (asleep.clone(), woken.clone());
        let target = Target::http(move |_| {
            let (asleep, woken) = (sleeps.clone(), wakes.clone());
            async move {
                let woken = woken.notified();
                if asleep.load(Ordering::SeqCst) {
                    woken.await;
                }
                Response::new(Full::from("sleeper"))
            }
        })
        .await;
        Self { target, asleep, woken }
    }

    fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.woken.notify_waiters();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_answers_nothing_is_put_behind_the_others_until_it_answers() {
    for carrier in CARRIERS {
        let (sleeper, alive) = (Sleeper::start().await, Target::saying("alive").await);
        let port = free_port();
        let snapshot = forwarding(port, &[target("s", sleeper.target.port), target("t", alive.port)]);
        let proxy = serve_through(carrier, &snapshot.replace("idleTimeout: 2s", "idleTimeout: 20s")).await;
        let looking = tokio::spawn(look(proxy.core.clone()));
        for _ in 0..20 {
            assert_eq!(get(local(port), "/").await.status, 200);
        }
        sleeper.asleep.store(true, Ordering::SeqCst);
        let began = Instant::now();
        let mut waiting = Vec::new();
        while group(&proxy).stats().suspicions() == 0 {
            waiting.push(tokio::spawn(async move { get(local(port), "/").await }));
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(began.elapsed() < Duration::from_secs(15), "{carrier:?}: nobody notices");
        }
        assert!(began.elapsed() >= Duration::from_millis(400), "{carrier:?}: {:?}", began.elapsed());
        for _ in 0..20 {
            assert_eq!(get(local(port), "/").await.text(), "alive", "{carrier:?}");
        }
        sleeper.wake();
        for asked in waiting {
            assert_eq!(asked.await.unwrap().status, 200, "{carrier:?}: what it was asked is answered");
        }
        let served = sleeper.target.served();
        get(local(port), "/").await;
        get(local(port), "/").await;
        assert_eq!(sleeper.target.served(), served + 1, "{carrier:?}: it has its turn again");
        looking.abort();
    }
}
