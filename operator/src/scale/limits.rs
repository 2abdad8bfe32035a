//! The last rungs: how much at once, and min and max.

use std::time::Duration;

use tokio::time::Instant;

use super::{Finding, Inputs, Step};

/// Within one period the number at most doubles, or grows by four where that is more: what a HorizontalPodAutoscaler does
/// by default (src: pkg/apis/autoscaling/v2/defaults.go, scaleUpLimitPercent, scaleUpLimitMinimumPods,
/// scaleUpPeriod). Scaling in has no limit but the window, there as here.
const PERIOD: Duration = Duration::from_secs(15);
const PERIOD_ADDS_AT_LEAST: i32 = 4;

/// Limits how much is added within a period.
pub(super) fn step(inputs: &Inputs<'_>, step: Step, now: Instant) -> (Step, Option<Finding>) {
    let began_with = inputs.current - inputs.history.added(PERIOD, now);
    let most = (began_with.max(0) + began_with.max(PERIOD_ADDS_AT_LEAST)).max(inputs.current);
    if step.replicas <= most {
        return (step, None);
    }
    let message = format!(
        "the number called for is {}; from {began_with}, at most {most} are reached within {} s",
        step.replicas,
        PERIOD.as_secs()
    );
    (Step::new(most, "ScaleOutLimit", message.clone()), Some(Finding::yes("ScaleOutLimit", message)))
}

/// Keeps the number between min and max.
pub(super) fn clamp(inputs: &Inputs<'_>, step: Step) -> (Step, Option<Finding>) {
    let (replicas, reason, bound) = if step.replicas > inputs.max {
        (inputs.max, "TooManyReplicas", "max")
    } else if step.replicas < inputs.min {
        (inputs.min, "TooFewReplicas", "min")
    } else {
        return (step, None);
    };
    let message = format!("the number called for is {}, but {bound} is {replicas}", step.replicas);
    (Step::new(replicas, reason, message.clone()), Some(Finding::yes(reason, message)))
}
