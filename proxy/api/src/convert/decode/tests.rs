use super::*;
use crate::convert::{listener_message, target_group_message};

const LISTENER: &str = "{port: 80, allowedSources: [10.0.0.0/8], rules: [
    {priority: 1, conditions: [path: {values: [/a]}, sourceIp: {values: [10.0.0.0/8]}],
     action: {forward: {targetGroups: [{name: api}]}}}],
    defaultAction: {fixedResponse: {statusCode: 404, contentType: text/plain}}}";
const GROUP: &str = "{targets: [{id: a, address: 10.0.0.1, port: 80}]}";

type Damage<T> = (fn(&mut T), &'static str);

#[test]
fn a_damaged_listener_is_refused_naming_the_field() {
    let whole = listener_message("http", &serde_saphyr::from_str(LISTENER).unwrap());
    assert!(listener(whole.clone()).is_ok());
    let damages: [Damage<proto::Listener>; 7] = [
        (|m| m.port = 65_536, "port: 65536 is more than 65535"),
        (|m| m.protocol = 99, "protocol: is missing or of a kind that this version does not know"),
        (
            |m| m.allowed_sources[0] = "10/33".into(),
            "allowedSources[0]: \"10/33\" is not an address or network",
        ),
        (
            |m| m.default_action = None,
            "defaultAction: is missing or of a kind that this version does not know",
        ),
        (
            |m| m.rules[0].action = None,
            "rules[0].action: is missing or of a kind that this version does not know",
        ),
        (
            |m| m.rules[0].conditions[0].condition = None,
            "rules[0].conditions[0]: is missing or of a kind that this version does not know",
        ),
        (
            |m| {
                m.rules[0].conditions[1].condition =
                    Some(proto::condition::Condition::SourceIp(proto::Networks {
                        values: vec!["all".into()],
                    }));
            },
            "rules[0].conditions[1].sourceIp.values[0]: \"all\" is not an address or network",
        ),
    ];
    for (damage, expected) in damages {
        let mut message = whole.clone();
        damage(&mut message);
        assert_eq!(listener(message).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_damaged_target_group_is_refused_naming_the_field() {
    let whole = target_group_message("api", &serde_saphyr::from_str(GROUP).unwrap());
    assert!(target_group(whole.clone()).is_ok());
    let damages: [Damage<proto::TargetGroup>; 4] = [
        (|m| m.algorithm = 0, "algorithm: is missing or of a kind that this version does not know"),
        (|m| m.health_check = None, "healthCheck: is missing or of a kind that this version does not know"),
        (|m| m.targets[0].address = String::new(), "targets[0].address: \"\" is not an address or network"),
        (|m| m.targets[0].weight = 70_000, "targets[0].weight: 70000 is more than 65535"),
    ];
    for (damage, expected) in damages {
        let mut message = whole.clone();
        damage(&mut message);
        assert_eq!(target_group(message).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_a_proxy_says_survives_the_way() {
    let version = Version { epoch: 3, counter: 7 };
    let rejection =
        Rejection { kind: ResourceKind::Listener, name: "http".into(), reason: "port 80 is taken".into() };
    let target = TargetReport {
        target_group: "api".into(),
        id: "a".into(),
        in_flight: 1,
        completed: 2,
        failed: 1,
        health: Health::Unhealthy,
        reason: "Target.Timeout".into(),
        description: "no answer within 2s".into(),
    };
    let group = GroupReport { name: "api".into(), requests: 5, no_target: 1, latency: vec![1; 15] };
    for message in [
        FromProxy::Hello(Hello { applied: Some(version), software: "evenkeel-proxy 1".into() }),
        FromProxy::Hello(Hello::default()),
        FromProxy::Ack(Ack { version, rejections: vec![rejection] }),
        FromProxy::Report(Report { version, targets: vec![target], target_groups: vec![group] }),
        FromProxy::Trust(Trust { authorities: [Fingerprint([1; 32]), Fingerprint([2; 32])].into() }),
        FromProxy::Trust(Trust::default()),
    ] {
        assert_eq!(FromProxy::try_from(proto::FromProxy::from(message.clone())), Ok(message));
    }
}

#[test]
fn what_a_proxy_says_wrongly_is_refused() {
    assert!(FromProxy::try_from(proto::FromProxy::default()).is_err());
    let group = proto::GroupReport { latency: vec![0; 99], ..Default::default() };
    let report = proto::Report {
        version: Some(proto::Version::default()),
        targets: vec![],
        target_groups: vec![group],
    };
    let error = Report::try_from(report).unwrap_err().to_string();
    assert_eq!(error, "targetGroups[0].latency: has 99 counts; 15 are known");
    for (authorities, expected) in [
        (vec![vec![0; 32], vec![0; 31]], "authorities[1]: has 31 bytes, not 32"),
        (vec![vec![0; 32]; 17], "authorities: has 17 fingerprints, more than 16"),
    ] {
        let error = Trust::try_from(proto::Trust { authorities }).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
