//! The first rung: what one policy calls for.

use super::{Replica, Step};
use crate::registry::ValidPolicy;

/// Within so much of the target nothing changes, as in the HorizontalPodAutoscaler.
const TOLERANCE: f64 = 0.1;

/// Demand, in replicas at their target, over what is current.
///
/// The base is what is used, never the number of pods: surplus and starting pods do not multiply it. Replicas of which
/// nothing is known count as idle when that calls for more, and as fully loaded when it calls for fewer.
pub(super) fn propose(policy: &ValidPolicy, replicas: &[Replica], current: i32) -> Step {
    let target = f64::from(policy.cpu_target_percent) / 100.0;
    let known: f64 = replicas.iter().map(|replica| used(*replica, 0.0)).sum();
    let feared: f64 = replicas.iter().map(|replica| used(*replica, target.max(1.0))).sum();
    let (out, into) = (known / target, feared / target);
    let base = f64::from(current.max(1));
    let ValidPolicy { name, cpu_target_percent } = policy;
    if out > base * (1.0 + TOLERANCE) {
        let wanted = ceil(out);
        let message = format!(
            "policy {name}: CPU in use is that of {out:.1} replicas at {cpu_target_percent} %: {wanted} needed"
        );
        Step::new(wanted, "CPUUtilizationAboveTarget", message)
    } else if into < base * (1.0 - TOLERANCE) {
        let wanted = ceil(into);
        let message = format!(
            "policy {name}: CPU in use is that of {into:.1} replicas at {cpu_target_percent} %: {wanted} needed"
        );
        Step::new(wanted, "CPUUtilizationBelowTarget", message)
    } else {
        let message = format!(
            "policy {name}: CPU in use is that of {out:.1} replicas at {cpu_target_percent} %: {current} is right"
        );
        Step::new(current, "WithinTolerance", message)
    }
}

/// Mean utilisation of those that are measured, in percent.
pub(super) fn mean_percent(replicas: &[Replica]) -> Option<i32> {
    let measured: Vec<f64> = replicas
        .iter()
        .filter_map(|replica| match replica {
            Replica::Measured(share) => Some(*share),
            Replica::Unknown => None,
        })
        .collect();
    let sum: f64 = measured.iter().sum();
    (!measured.is_empty()).then(|| (100.0 * sum / measured.len() as f64).round() as i32)
}

fn used(replica: Replica, unknown: f64) -> f64 {
    match replica {
        Replica::Measured(share) => share,
        Replica::Unknown => unknown,
    }
}

/// Rounds up, but not for what is only an error of arithmetic.
fn ceil(replicas: f64) -> i32 {
    (replicas - 1e-6).ceil().max(0.0) as i32
}
