//! The third rung: a change must have been called for during all of its window.

use tokio::time::Instant;

use super::{Finding, Inputs, Step};

/// Out to the least, in to the most of what was called for in the window.
pub(super) fn stabilise(inputs: &Inputs<'_>, step: Step, now: Instant) -> (Step, Option<Finding>) {
    let Inputs { current, history, scale_out_window, scale_in_window, .. } = *inputs;
    let wanted = step.replicas;
    if wanted > current {
        let least = history.proposals(scale_out_window, now).fold(wanted, i32::min).max(current);
        limit(step, least, "ScaleOutStabilized", scale_out_window)
    } else {
        let most = history.proposals(scale_in_window, now).fold(wanted, i32::max).min(current);
        limit(step, most, "ScaleInStabilized", scale_in_window)
    }
}

fn limit(
    step: Step,
    replicas: i32,
    reason: &'static str,
    window: std::time::Duration,
) -> (Step, Option<Finding>) {
    if replicas == step.replicas {
        return (step, None);
    }
    let message = format!(
        "the number called for is {}, but it was {replicas} within the last {} s",
        step.replicas,
        window.as_secs()
    );
    (Step::new(replicas, reason, message.clone()), Some(Finding::yes(reason, message)))
}
