use evenkeel_proxy_api::report::{Health, TargetReport};
use prometheus_client::registry::Registry;
use tokio::task::yield_now;

use super::*;
use crate::push::publisher::tests::{accepted, key, target};
use crate::world::World;

/// Nobody asks it.
struct Nobody;

#[tonic::async_trait]
impl Authenticate for Nobody {
    async fn authenticate(&self, _: &str) -> Result<PodIdentity, auth::Error> {
        Err(auth::Error::NoToken)
    }
}

fn session() -> Session {
    Session {
        publisher: Arc::new(Publisher::new(1, Arc::default(), Arc::default(), Arc::default())),
        metrics: Metrics::register(&mut Registry::default()),
        authenticator: Arc::new(Nobody),
        load_balancer: key("shop"),
        pod: PodIdentity { namespace: "default".into(), name: "proxy".into(), uid: "uid".into() },
        token: String::new(),
        stop: CancellationToken::new(),
    }
}

/// Publishes balancer `shop` with one target.
fn publish(publisher: &Publisher, target_id: &str) {
    let (world, _writers) = World::new();
    world.pulse().beat(None);
    let accepted = accepted(1, vec![target(target_id, None)]);
    publisher.publish(&accepted, &world, &world.pulse().take());
}

#[tokio::test]
async fn a_slow_proxy_skips_versions_and_misses_nothing() {
    let session = session();
    let publisher = session.publisher.clone();
    let (out, mut updates) = mpsc::channel(1);
    let sending = tokio::spawn(async move { session.send(&out, &Sent::default()).await });
    for target in ["a", "b", "c", "d"] {
        publish(&publisher, target);
        // The sender takes what it can: the first waits in the channel, the second before it.
        for _ in 0..10 {
            yield_now().await;
        }
    }
    let mut received = Vec::new();
    for _ in 0..3 {
        let update = updates.recv().await.unwrap().unwrap();
        let targets = update.target_groups.iter().filter(|group| group.name == "api");
        let ids: Vec<String> = targets.flat_map(|group| &group.targets).map(|it| it.id.clone()).collect();
        received.push((update.version.unwrap_or_default().counter, update.reset, ids.join(" ")));
    }
    let expected = [(1, true, "a"), (2, false, "b"), (4, false, "d")];
    assert_eq!(received, expected.map(|(counter, reset, ids)| (counter, reset, ids.to_owned())));
    drop(updates);
    publish(&publisher, "e");
    assert_eq!(sending.await.unwrap().code(), tonic::Code::Cancelled);
}

#[test]
fn a_version_is_acknowledged_once_and_with_those_before_it() {
    let sent = Sent::default();
    let version = |counter| Version { epoch: 1, counter };
    let began = Instant::now();
    for counter in 1..=3 {
        sent.note(version(counter), began + Duration::from_secs(counter));
    }
    assert_eq!(sent.acknowledged(version(2)), Some(began + Duration::from_secs(2)));
    assert_eq!(sent.acknowledged(version(1)), None, "answered with the second");
    assert_eq!(sent.acknowledged(version(4)), None, "never sent");
    assert_eq!(sent.acknowledged(version(3)), Some(began + Duration::from_secs(3)));
}

#[test]
fn a_proxy_that_acknowledges_nothing_fills_no_memory() {
    let sent = Sent::default();
    for counter in 0..3 * SENT_LIMIT as u64 {
        sent.note(Version { epoch: 1, counter }, Instant::now());
    }
    assert_eq!(sent.0.lock().len(), SENT_LIMIT);
}

#[test]
fn a_text_is_cut_between_characters() {
    for (limit, expected) in [(10, "añb"), (3, "añ"), (2, "a"), (0, "")] {
        let mut text = "añb".to_owned();
        truncate(&mut text, limit);
        assert_eq!(text, expected, "{limit}");
    }
}

/// A report of a version by number, with so much in flight at these targets.
fn report(counter: u64, targets: &[&str], in_flight: u32) -> Report {
    let target = |id: &&str| TargetReport {
        target_group: "api".into(),
        id: (*id).to_owned(),
        in_flight,
        completed: 0,
        failed: 0,
        health: Health::Healthy,
        reason: String::new(),
        description: "é".repeat(REASON_LIMIT),
    };
    Report {
        version: Version { epoch: 1, counter },
        targets: targets.iter().map(target).collect(),
        ..Report::default()
    }
}

impl Session {
    /// Takes a report, and says of which targets is known what.
    fn known_after(&self, report: Report) -> Vec<String> {
        let published = self.publisher.subscribe(&self.load_balancer);
        self.report(report, published.borrow().as_deref());
        self.publisher.reports().targets(&key("api"), Instant::now()).into_keys().collect()
    }
}

#[tokio::test]
async fn a_target_is_forgotten_only_by_a_report_of_the_version_that_it_is_gone_from() {
    let session = session();
    publish(&session.publisher, "a");
    assert_eq!(session.known_after(report(1, &["a"], 0)), ["a"]);
    publish(&session.publisher, "b");
    assert_eq!(session.known_after(report(1, &[], 0)), ["a"], "it may come back before the proxy looks");
    publish(&session.publisher, "a");
    assert_eq!(session.known_after(report(3, &[], 0)), ["a"], "it did, and is not reported again");
    publish(&session.publisher, "b");
    assert_eq!(session.known_after(report(4, &["b"], 0)), ["b"]);
}

#[tokio::test]
async fn whatever_a_proxy_reports_little_is_remembered_of_it() {
    let session = session();
    assert_eq!(session.known_after(report(1, &["a"], 0)), [""; 0], "nothing was published");
    publish(&session.publisher, "a");
    let strangers: Vec<String> = (0..10_000).map(|number| format!("stranger-{number}")).collect();
    let strangers: Vec<&str> = strangers.iter().map(String::as_str).collect();
    assert_eq!(session.known_after(report(1, &strangers, 7)), [""; 0]);
    assert_eq!(session.known_after(report(2, &["a"], 7)), [""; 0], "a version that nobody published");
    assert_eq!(session.metrics.nonsense.get(), 1);
    let former = Report { version: Version { epoch: 0, counter: 9 }, ..report(1, &["a"], 0) };
    assert_eq!(session.known_after(former), ["a"], "its health counts");
    let view = session.publisher.reports().targets(&key("api"), Instant::now()).remove("a").unwrap();
    assert_eq!(view.description.len(), REASON_LIMIT);
}
