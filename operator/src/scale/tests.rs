use super::*;

const WINDOW: Duration = Duration::from_secs(300);

/// A service of 1 to 10 replicas at 50 % CPU.
struct Case {
    min: i32,
    max: i32,
    current: i32,
    targets: Vec<u16>,
    replicas: Vec<Replica>,
    blind: Option<Blind>,
    hold: Option<Finding>,
    history: History,
}

fn at(current: i32, shares: &[f64]) -> Case {
    Case {
        min: 1,
        max: 10,
        current,
        targets: vec![50],
        replicas: shares.iter().map(|share| Replica::Measured(*share)).collect(),
        blind: None,
        hold: None,
        history: History::seeded(0, Instant::now()),
    }
}

impl Case {
    fn and_unknown(mut self, count: usize) -> Self {
        self.replicas.extend(vec![Replica::Unknown; count]);
        self
    }

    fn decide(&self, now: Instant) -> Decision {
        let policies: Vec<ValidPolicy> = (self.targets.iter())
            .map(|target| ValidPolicy { name: format!("cpu-{target}"), cpu_target_percent: *target })
            .collect();
        let inputs = Inputs {
            min: self.min,
            max: self.max,
            current: self.current,
            policies: &policies,
            replicas: &self.replicas,
            blind: self.blind.clone(),
            hold: self.hold.clone(),
            scale_out_window: Duration::ZERO,
            scale_in_window: WINDOW,
            history: &self.history,
        };
        decide(&inputs, now)
    }

    fn decides(&self) -> (i32, &'static str) {
        let decision = self.decide(Instant::now());
        (decision.replicas, decision.reason)
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_follows_the_demand() {
    let table = [
        ("twice the target", at(2, &[1.0, 1.0]), (4, "CPUUtilizationAboveTarget")),
        ("a little more than the tolerance", at(2, &[0.56, 0.56]), (3, "CPUUtilizationAboveTarget")),
        ("on target", at(2, &[0.5, 0.5]), (2, "WithinTolerance")),
        ("a little above", at(2, &[0.55, 0.55]), (2, "WithinTolerance")),
        ("a little below", at(2, &[0.45, 0.45]), (2, "WithinTolerance")),
        ("half the target", at(4, &[0.25; 4]), (2, "CPUUtilizationBelowTarget")),
        ("nothing to do", at(4, &[0.0; 4]), (1, "TooFewReplicas")),
        ("uneven", at(2, &[2.0, 0.0]), (4, "CPUUtilizationAboveTarget")),
        ("more than max", at(8, &[1.0; 8]), (10, "TooManyReplicas")),
        ("draining ones count as demand", at(2, &[0.9, 0.9, 0.4]), (5, "CPUUtilizationAboveTarget")),
    ];
    for (case, inputs, expected) in table {
        assert_eq!(inputs.decides(), expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_of_which_nothing_is_known_are_idle_outwards_and_busy_inwards() {
    let table = [
        ("starting ones do not multiply", at(4, &[1.0, 1.0]).and_unknown(2), 4),
        ("a surge of a rollout is not in the base", at(2, &[0.6, 0.6]).and_unknown(4), 3),
        ("one unknown keeps two others", at(4, &[0.1, 0.1, 0.1]).and_unknown(1), 3),
        ("unknown ones alone keep the number", at(2, &[0.0]).and_unknown(1), 2),
    ];
    for (case, inputs, expected) in table {
        assert_eq!(inputs.decides().0, expected, "{case}");
    }
}

/// The HorizontalPodAutoscaler multiplies its ratio by the number of ready pods, those of a surge included.
#[tokio::test(start_paused = true)]
async fn a_rollout_does_not_run_away() {
    let mut case = at(4, &[0.75; 4]);
    for surge in 0..8 {
        // Load of three replicas' worth spread over more and more pods.
        let pods = 4 + surge;
        case.replicas = vec![Replica::Measured(3.0 / f64::from(pods)); pods as usize];
        case.current = case.decides().0;
        assert_eq!(case.current, 6, "with {pods} pods");
    }
}

#[tokio::test(start_paused = true)]
async fn one_policy_suffices_to_go_out_and_all_must_agree_to_go_in() {
    let with = |current, share, targets: &[u16]| {
        let mut case = at(current, &vec![share; current as usize]);
        case.targets = targets.to_vec();
        case.decides().0
    };
    assert_eq!(with(2, 0.8, &[80, 40]), 4, "one wants out");
    assert_eq!(with(4, 0.4, &[80, 40]), 4, "one wants in, the other is content");
    assert_eq!(with(4, 0.2, &[80, 40]), 2, "both want in: the more cautious decides");
}

#[tokio::test(start_paused = true)]
async fn without_metrics_nothing_changes_and_the_reason_is_told() {
    let table = [
        (Blind::Paused, "ScalingPaused"),
        (Blind::NoPolicies, "NoPolicies"),
        (Blind::MissingCpuRequest(vec!["app".into()]), "MissingCPURequest"),
        (Blind::NoMetrics("install metrics-server".into()), "FailedGetResourceMetric"),
    ];
    for (blind, reason) in table {
        let decision = Case { blind: Some(blind), ..at(4, &[0.0; 4]) }.decide(Instant::now());
        assert_eq!((decision.replicas, decision.scaling_active.holds), (4, false));
        assert_eq!(decision.scaling_active.reason, reason);
        assert_eq!(decision.proposal, None);
    }
    let decision = at(4, &[]).and_unknown(4).decide(Instant::now());
    assert_eq!((decision.replicas, decision.scaling_active.reason), (4, "FailedGetResourceMetric"));
}

#[tokio::test(start_paused = true)]
async fn limits_hold_even_without_metrics() {
    for (current, expected) in [(0, 2), (2, 2), (5, 5), (12, 10)] {
        let case = Case { min: 2, blind: Some(Blind::Paused), ..at(current, &[]) };
        assert_eq!(case.decides().0, expected, "from {current}");
    }
}

#[tokio::test(start_paused = true)]
async fn scaling_in_waits_until_it_was_called_for_all_through_the_window() {
    let mut case = at(4, &[0.25; 4]);
    case.history = History::seeded(4, Instant::now());
    for _ in 0..19 {
        tokio::time::advance(Duration::from_secs(15)).await;
        let decision = case.decide(Instant::now());
        assert_eq!((decision.replicas, decision.able_to_scale.reason), (4, "ScaleInStabilized"));
        case.history.propose(2, Instant::now());
    }
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(case.decides().0, 2);
    case.history.propose(3, Instant::now());
    assert_eq!(case.decides().0, 3, "to the most of what was called for");
}

#[tokio::test(start_paused = true)]
async fn nothing_scales_in_while_it_is_not_safe_but_out_it_does() {
    let hold = Some(Finding::no("ProxyReportMissing", "a proxy is silent"));
    let held = Case { hold: hold.clone(), ..at(4, &[0.1; 4]) };
    assert_eq!(held.decides(), (4, "ProxyReportMissing"));
    assert_eq!(held.decide(Instant::now()).able_to_scale.reason, "ProxyReportMissing");
    assert_eq!(Case { hold, ..at(2, &[1.0; 2]) }.decides().0, 4);
}

#[tokio::test(start_paused = true)]
async fn within_fifteen_seconds_the_number_doubles_or_grows_by_four() {
    for (current, most) in [(1, 5), (4, 8), (6, 12), (20, 40)] {
        let case = Case { max: 1000, ..at(current, &vec![50.0; current as usize]) };
        assert_eq!(case.decides(), (most, "ScaleOutLimit"), "from {current}");
    }
    let mut case = Case { max: 1000, ..at(8, &[50.0; 4]) };
    case.history.change(4, Instant::now());
    assert_eq!(case.decides().0, 8, "four were added just now");
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(case.decides().0, 16);
}

#[tokio::test(start_paused = true)]
async fn the_utilisation_is_that_of_the_measured_ones() {
    let decision = at(3, &[0.5, 0.7]).and_unknown(1).decide(Instant::now());
    assert_eq!(decision.cpu_utilization_percent, Some(60));
}
