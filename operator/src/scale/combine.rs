//! The second rung: out if any policy wants out, in only if all agree.

use super::Step;

/// The highest proposal is just that: one that stays keeps the others from going in.
pub(super) fn combine(proposals: Vec<Step>, current: i32) -> Step {
    proposals
        .into_iter()
        .max_by_key(|step| step.replicas)
        .unwrap_or_else(|| Step::new(current, "NoPolicies", "there are no policies"))
}
