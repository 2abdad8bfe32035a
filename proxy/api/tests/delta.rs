//! Whatever changes, the other side has the same afterwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use evenkeel_proxy_api::delta::{Assembler, updates};
use evenkeel_proxy_api::proto;
use evenkeel_proxy_api::snapshot::{
    Action, Algorithm, Condition, FixedResponse, HealthCheck, Limits, Listener, ListenerProtocol, QueryPair,
    Redirect, Rule, RuleLimits, Snapshot, StatusRange, Target, TargetGroup, TargetProtocol, Version,
    WeightedTargetGroup,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-e]"
}

fn milliseconds() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|ms| Duration::from_millis(u64::from(ms)))
}

fn condition() -> impl Strategy<Value = Condition> {
    let values = || vec(".{0,8}", 0..3);
    let pair = (option::of(".{0,4}"), ".{0,4}").prop_map(|(key, value)| QueryPair { key, value });
    prop_oneof![
        values().prop_map(|values| Condition::Path { values }),
        values().prop_map(|values| Condition::Host { values }),
        values().prop_map(|values| Condition::Method { values }),
        (".{0,8}", values()).prop_map(|(name, values)| Condition::Header { name, values }),
        vec(pair, 0..3).prop_map(|pairs| Condition::Query { pairs }),
        Just(Condition::SourceIp {
            values: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
        }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let weighted = (name(), any::<u16>()).prop_map(|(name, weight)| WeightedTargetGroup { name, weight });
    let redirect = (any::<u16>(), [".{0,5}", ".{0,5}", ".{0,5}", ".{0,5}", ".{0,5}"]);
    let redirect = redirect.prop_map(|(status_code, [protocol, host, port, path, query])| {
        Action::Redirect(Redirect { status_code, protocol, host, port, path, query })
    });
    let fixed = (any::<u16>(), ".{0,9}", ".{0,9}").prop_map(|(status_code, content_type, message_body)| {
        Action::FixedResponse(FixedResponse { status_code, content_type, message_body })
    });
    prop_oneof![
        vec(weighted, 0..3).prop_map(|target_groups| Action::Forward { target_groups }),
        redirect,
        fixed
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let of_clients = any::<(Option<u32>, Option<u32>)>();
    let of_requests = any::<(u32, u32, u32, Option<u64>)>();
    (of_clients, of_requests).prop_map(|(of_clients, of_requests)| Limits {
        connections: of_clients.0,
        connections_per_source: of_clients.1,
        head_bytes: of_requests.0,
        header_count: of_requests.1,
        requests_per_connection: of_requests.2,
        body_bytes: of_requests.3,
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    let rule = (any::<u32>(), vec(condition(), 0..3), action(), any::<Option<u64>>()).prop_map(
        |(priority, conditions, action, body_bytes)| Rule {
            priority,
            conditions,
            action,
            limits: RuleLimits { body_bytes },
        },
    );
    let protocol = prop_oneof![Just(ListenerProtocol::Http), Just(ListenerProtocol::Tcp)];
    (any::<u16>(), protocol, milliseconds(), limits(), vec(rule, 0..3), action()).prop_map(
        |(port, protocol, idle_timeout, limits, rules, default_action)| Listener {
            port,
            protocol,
            allowed_sources: vec!["192.168.0.0/16".parse().unwrap()],
            idle_timeout,
            limits,
            rules,
            default_action,
        },
    )
}

fn target_protocol() -> impl Strategy<Value = TargetProtocol> {
    prop_oneof![Just(TargetProtocol::Http), Just(TargetProtocol::Tcp)]
}

fn target() -> impl Strategy<Value = Target> {
    (name(), any::<std::net::IpAddr>(), any::<u16>(), any::<u16>(), option::of(milliseconds())).prop_map(
        |(id, address, port, weight, drain)| Target {
            zone: id.clone(),
            node: id.clone(),
            id,
            address,
            port,
            weight,
            drain,
        },
    )
}

fn target_group() -> impl Strategy<Value = TargetGroup> {
    let check =
        (target_protocol(), ".{0,9}", option::of(any::<u16>()), milliseconds(), milliseconds(), any::<u16>());
    let check = check.prop_map(|(protocol, path, port, interval, timeout, number)| HealthCheck {
        protocol,
        path,
        port,
        interval,
        timeout,
        healthy_threshold: number,
        unhealthy_threshold: number.wrapping_add(1),
        matcher: vec![StatusRange { from: number, to: number }],
    });
    let algorithm = prop_oneof![Just(Algorithm::RoundRobin), Just(Algorithm::LeastRequest)];
    (target_protocol(), algorithm, check, vec(target(), 0..4)).prop_map(
        |(protocol, algorithm, health_check, targets)| TargetGroup {
            protocol,
            algorithm,
            health_check,
            targets,
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (btree_map(name(), listener(), 0..4), btree_map(name(), target_group(), 0..4)).prop_map(
        |(listeners, target_groups)| Snapshot { version: Version::default(), listeners, target_groups },
    )
}

fn receive(assembler: &mut Assembler, updates: Vec<proto::Update>) -> Snapshot {
    let complete = updates.into_iter().filter_map(|update| assembler.take(update).unwrap()).last().unwrap();
    assert!(complete.rejections.is_empty());
    Snapshot::clone(&complete.snapshot)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_other_side_has_each_version_in_turn(mut versions in vec(snapshot(), 1..4)) {
        let mut assembler = Assembler::default();
        let mut sent: Option<Snapshot> = None;
        for (counter, next) in (1..).zip(&mut versions) {
            next.version = Version { epoch: 1, counter };
            let received = receive(&mut assembler, updates(sent.as_ref(), next));
            prop_assert_eq!(&received, &*next);
            sent = Some(received);
        }
    }

    #[test]
    fn no_bytes_make_the_receiver_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(update) = <proto::Update as prost::Message>::decode(bytes.as_slice()) {
            let _ = Assembler::default().take(update);
        }
    }
}
