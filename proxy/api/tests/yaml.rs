//! Snapshots that people write, and what they are told when they err.

use std::time::Duration;

use evenkeel_proxy_api::snapshot::{Action, Algorithm, ListenerProtocol, Snapshot, TargetProtocol};
use evenkeel_proxy_api::validate;

const SNAPSHOT: &str = include_str!("snapshot.yaml");

#[test]
fn a_readable_file_is_a_snapshot() {
    let snapshot: Snapshot = serde_saphyr::from_str(SNAPSHOT).unwrap();
    let http = &snapshot.listeners["http"];
    assert_eq!(
        (http.port, http.protocol, http.idle_timeout),
        (8080, ListenerProtocol::Http, Duration::from_secs(60))
    );
    assert!(
        matches!(&http.rules[0].action, Action::Forward { target_groups } if target_groups[0].weight == 90)
    );
    let limits = http.limits;
    assert_eq!((limits.connections, limits.connections_per_source), (None, Some(100)));
    assert_eq!((limits.head_bytes, limits.header_count, limits.body_bytes), (16_384, 256, Some(1 << 20)));
    let bodies = http.rules.iter().map(|rule| rule.limits.body_bytes);
    assert_eq!(bodies.collect::<Vec<_>>(), [Some(10 << 20), None]);
    assert!(matches!(&http.rules[1].action, Action::Redirect(redirect) if redirect.port == "443"));
    let api = &snapshot.target_groups["api"];
    assert_eq!((api.algorithm, api.targets.len(), api.targets[1].weight), (Algorithm::LeastRequest, 2, 2));
    assert_eq!(api.health_check.unhealthy_threshold, 2);
    assert_eq!(snapshot.target_groups["api-next"].targets[0].drain, Some(Duration::from_secs(300)));
    assert_eq!(snapshot.target_groups["database"].protocol, TargetProtocol::Tcp);
}

#[test]
fn a_readable_file_is_valid() {
    let snapshot: Snapshot = serde_saphyr::from_str(SNAPSHOT).unwrap();
    for listener in snapshot.listeners.values() {
        validate::listener(listener).unwrap();
    }
    for group in snapshot.target_groups.values() {
        validate::settings(group).unwrap();
        validate::targets(group).unwrap();
    }
}

#[test]
fn a_snapshot_written_and_read_again_is_the_same() {
    let snapshot: Snapshot = serde_saphyr::from_str(SNAPSHOT).unwrap();
    let written = serde_saphyr::to_string(&snapshot).unwrap();
    assert_eq!(serde_saphyr::from_str::<Snapshot>(&written).unwrap(), snapshot);
}

#[test]
fn mistakes_are_told_with_line_and_field() {
    for (right, wrong, line, word) in [
        ("port: 8080", "prot: 8080", "line 4", "prot"),
        ("port: 8080", "port: 80800", "line 4", "80800"),
        ("algorithm: LeastRequest", "algorithm: Random", "line 30", "Random"),
        ("interval: 5s", "interval: 5 parsecs", "line 31", "parsecs"),
        ("address: \"::1\"", "address: localhost", "line 42", "address"),
    ] {
        let error =
            serde_saphyr::from_str::<Snapshot>(&SNAPSHOT.replacen(right, wrong, 1)).unwrap_err().to_string();
        assert!(error.contains(line) && error.contains(word), "{wrong}: {error}");
    }
}

#[test]
fn limits_that_nobody_can_keep_are_told_with_their_field() {
    for (right, wrong, expected) in [
        ("headBytes: 16384", "headBytes: 1000", "limits.headBytes: must be from 1024 to 65536"),
        ("headBytes: 16384", "headerCount: 257", "limits.headerCount: must be from 1 to 256"),
        ("connectionsPerSource: 100", "connections: 0", "limits.connections: must be at least 1"),
        (
            "bodyBytes: 10485760",
            "bodyBytes: 1099511627777",
            "rules[0].limits.bodyBytes: must be from 0 to 1099511627776",
        ),
    ] {
        let snapshot: Snapshot = serde_saphyr::from_str(&SNAPSHOT.replacen(right, wrong, 1)).unwrap();
        let error = validate::listener(&snapshot.listeners["http"]).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn values_that_contradict_each_other_are_told_with_their_field() {
    for (right, wrong, expected) in [
        ("port: 8080", "port: 0", "port: must be from 1 to 65535"),
        ("priority: 20", "priority: 10", "rules[1].priority: another rule has the same"),
        ("priority: 10", "priority: 50001", "rules[0].priority: must be from 1 to 50000"),
        ("statusCode: 301", "statusCode: 307", "rules[1].action.redirect.statusCode: must be 301 or 302"),
        (
            "port: \"443\"",
            "port: https",
            "rules[1].action.redirect.port: must be a number from 1 to 65535 or #{port}",
        ),
        (
            "statusCode: 404",
            "statusCode: 302",
            "defaultAction.fixedResponse.statusCode: must be 2XX, 4XX or 5XX",
        ),
    ] {
        let snapshot: Snapshot = serde_saphyr::from_str(&SNAPSHOT.replacen(right, wrong, 1)).unwrap();
        let error = validate::listener(&snapshot.listeners["http"]).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
    for (right, wrong, expected) in [
        ("timeout: 2s", "timeout: 6s", "healthCheck.timeout: must not be longer than the interval"),
        (
            "path: /healthz",
            "path: healthz",
            "healthCheck.path: must begin with a slash and be ASCII without blanks",
        ),
        ("id: b", "id: a", "targets[1].id: another target has the same"),
        ("weight: 2", "weight: 101", "targets[1].weight: must be from 1 to 100"),
    ] {
        let snapshot: Snapshot = serde_saphyr::from_str(&SNAPSHOT.replacen(right, wrong, 1)).unwrap();
        let group = &snapshot.target_groups["api"];
        let error =
            validate::settings(group).and_then(|()| validate::targets(group)).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}
