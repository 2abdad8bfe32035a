use super::*;
use crate::snapshot::{Action, FixedResponse, Listener, TargetGroup};

fn snapshot(counter: u64, listeners: &[(&str, u16)], groups: &[&str]) -> Snapshot {
    let listener = |port: u16| -> Listener {
        let response = FixedResponse {
            status_code: 404,
            content_type: "text/plain".into(),
            message_body: String::new(),
        };
        Listener {
            port,
            protocol: crate::snapshot::ListenerProtocol::Http,
            allowed_sources: vec![],
            idle_timeout: std::time::Duration::from_secs(60),
            limits: crate::snapshot::Limits::default(),
            rules: vec![],
            default_action: Action::FixedResponse(response),
        }
    };
    let group: TargetGroup =
        serde_saphyr::from_str("{targets: [{id: a, address: 10.0.0.1, port: 80}]}").unwrap();
    Snapshot {
        version: Version { epoch: 1, counter },
        listeners: listeners.iter().map(|(name, port)| ((*name).to_owned(), listener(*port))).collect(),
        target_groups: groups.iter().map(|name| ((*name).to_owned(), group.clone())).collect(),
    }
}

fn take_all(assembler: &mut Assembler, updates: Vec<proto::Update>) -> Result<Option<Assembled>, DeltaError> {
    updates.into_iter().try_fold(None, |_, update| assembler.take(update))
}

#[test]
fn only_what_changed_is_sent() {
    let before = snapshot(1, &[("http", 80), ("old", 81)], &["api", "gone"]);
    let after = snapshot(2, &[("http", 80), ("new", 82)], &["api"]);
    let updates = updates(Some(&before), &after);
    assert_eq!(updates.len(), 1);
    let update = &updates[0];
    assert_eq!(update.listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(update.removed_listeners, ["old"]);
    assert_eq!(update.removed_target_groups, ["gone"]);
    assert!(update.target_groups.is_empty() && update.first && update.last && !update.reset);
}

#[test]
fn a_broken_resource_keeps_its_last_good_form_and_spoils_no_other() {
    let mut assembler = Assembler::default();
    let before = snapshot(1, &[("http", 80)], &["api"]);
    take_all(&mut assembler, updates(None, &before)).unwrap();

    let after = snapshot(2, &[("http", 8080), ("tcp", 90)], &["api"]);
    for previous in [Some(&before), None] {
        let mut damaged = updates(previous, &after);
        damaged[0]
            .listeners
            .iter_mut()
            .filter(|listener| listener.name == "http")
            .for_each(|l| l.protocol = 99);
        let whole = take_all(&mut assembler, damaged).unwrap().unwrap();
        assert_eq!(whole.snapshot.listeners["http"].port, 80);
        assert_eq!(whole.snapshot.listeners["tcp"].port, 90);
        assert_eq!(whole.rejections.len(), 1);
        assert_eq!(whole.rejections[0].name, "http");
    }

    let later = Snapshot { version: Version { epoch: 1, counter: 3 }, ..after.clone() };
    let whole = take_all(&mut assembler, updates(Some(&after), &later)).unwrap().unwrap();
    assert_eq!(whole.rejections.len(), 1, "it is still rejected");
    let repaired = snapshot(4, &[("http", 8081)], &["api"]);
    let whole = take_all(&mut assembler, updates(Some(&later), &repaired)).unwrap().unwrap();
    assert_eq!(*whole.snapshot, repaired);
    assert!(whole.rejections.is_empty());
}

#[test]
fn former_leaders_and_repetitions_are_refused() {
    let mut assembler = Assembler::default();
    take_all(&mut assembler, updates(None, &snapshot(5, &[], &[]))).unwrap();
    let mut refused = |reset: bool, epoch, counter| {
        let next = Snapshot { version: Version { epoch, counter }, ..Snapshot::default() };
        let current = Snapshot::clone(assembler.current());
        let chunks = updates((!reset).then_some(&current), &next);
        matches!(take_all(&mut assembler, chunks), Err(DeltaError::Older { .. }))
    };
    assert!(refused(true, 0, 99));
    assert!(refused(true, 1, 4));
    assert!(refused(false, 1, 4));
    assert!(refused(false, 1, 5));
    assert!(!refused(true, 1, 5));
    assert!(!refused(false, 1, 6));
    assert!(!refused(false, 2, 0));
}

#[test]
fn chunks_out_of_order_are_refused() {
    let version = Some(proto::Version { epoch: 1, counter: 9 });
    let chunk = |first, last, reset| proto::Update { version, first, last, reset, ..Default::default() };
    let refused = |chunks: Vec<proto::Update>| {
        let mut assembler = Assembler::default();
        matches!(take_all(&mut assembler, chunks), Err(DeltaError::OutOfOrder(_)))
    };
    assert!(refused(vec![chunk(true, true, false)]));
    assert!(refused(vec![chunk(false, true, true)]));
    assert!(refused(vec![chunk(true, false, true), chunk(true, true, true)]));
    assert!(refused(vec![chunk(true, false, true), chunk(false, true, true)]));
    let other = proto::Update { version: Some(proto::Version::default()), ..chunk(false, true, false) };
    assert!(refused(vec![chunk(true, false, true), other]));
    assert!(!refused(vec![chunk(true, false, true), chunk(false, true, false)]));
    assert_eq!(Assembler::default().take(proto::Update::default()), Err(DeltaError::NoVersion));
}

#[test]
fn a_new_stream_forgets_half_a_version_and_begins_with_everything() {
    let mut assembler = Assembler::default();
    let first = snapshot(1, &[], &["api"]);
    take_all(&mut assembler, updates(None, &first)).unwrap();
    let half = proto::Update { last: false, ..updates(None, &snapshot(2, &[], &[])).remove(0) };
    assert_eq!(assembler.take(half), Ok(None));
    assembler.begin_stream();
    assert_eq!(**assembler.current(), first);
    assert!(take_all(&mut assembler, updates(Some(&first), &snapshot(2, &[], &[]))).is_err());
    assembler.begin_stream();
    assert!(take_all(&mut assembler, updates(None, &snapshot(2, &[], &[]))).is_ok());
}

#[test]
fn large_snapshots_are_sent_in_chunks() {
    let mut next = snapshot(1, &[("http", 80)], &["a", "b", "c", "d"]);
    for group in next.target_groups.values_mut() {
        let target = group.targets[0].clone();
        group.targets = (0..3_000)
            .map(|i| crate::snapshot::Target { id: format!("{i:0100}"), ..target.clone() })
            .collect();
    }
    let chunks = updates(None, &next);
    assert!(chunks.len() > 1);
    assert!(chunks.iter().all(|chunk| chunk.encoded_len() < 1024 * 1024));
    let whole = take_all(&mut Assembler::default(), chunks).unwrap().unwrap();
    assert_eq!(*whole.snapshot, next);
}

#[test]
fn more_than_can_be_valid_is_refused() {
    let mut assembler = Assembler::default();
    let chunk = |first| proto::Update {
        version: Some(proto::Version::default()),
        first,
        reset: first,
        removed_listeners: vec!["x".repeat(1024 * 1024); 15],
        ..Default::default()
    };
    let outcomes: Vec<_> = (0..5).map(|index| assembler.take(chunk(index == 0))).collect();
    assert!(outcomes.contains(&Err(DeltaError::TooLarge("64 MiB"))));
}
