//! TargetGroup: dereference → validate → status. It owns nothing in the cluster.

pub mod dereference;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::TargetGroup;
use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;

use self::dereference::Found;
use crate::context::Context;
use crate::controller::Reconcile;
use crate::deletion::{self, Leaving};
use crate::error::Error;
use crate::finalizer;
use crate::labels::DRAIN;
use crate::last_accepted::{in_force, keep};
use crate::metrics::Kind;
use crate::reconciled::Reconciled;
use crate::registry::ValidTargetGroup;

impl Reconcile for TargetGroup {
    const KIND: Kind = Kind::TargetGroup;

    fn accept(&self, context: &Context) {
        let checked = context.registry.versions.check(self, validate::validate);
        if let Some(valid) = in_force(&checked) {
            register(valid, context);
        }
    }

    async fn reconcile(&self, context: &Context) -> Result<Reconciled, Error> {
        let now = Timestamp::now();
        let found = dereference::dereference(self, context); // no client
        let checked = context.registry.versions.check(self, validate::validate); // no client
        if let Some(valid) = in_force(&checked) {
            register(valid, context);
        }
        let known_for = context.deletions.known_for(self, Instant::now());
        let leaving = known_for.map(|known_for| leaving(self, known_for, &found));
        finalizer::ensure(&context.client, self, DRAIN, keeps(self, &found, leaving)).await?; // client
        if leaving == Some(Leaving::Gone) {
            return Ok(Reconciled::Done);
        }
        let checked = keep(&context.client, &context.registry.versions, self, checked).await?; // client
        let written = context
            .statuses
            .update(self, |old| status::status(self, &checked, &found, old, now), Instant::now())
            .await?;
        let again = leaving.map_or(Reconciled::Done, Leaving::again);
        Ok(if checked.is_err() { Reconciled::Invalid } else { Reconciled::Done }.and(again).and(written))
    }
}

/// Whether the object must not go without us: while somebody forwards to it, or while it drains.
fn keeps(object: &TargetGroup, found: &Found, leaving: Option<Leaving>) -> bool {
    match leaving {
        None => object.meta().deletion_timestamp.is_none() && !found.load_balancers.is_empty(),
        Some(leaving) => leaving != Leaving::Gone,
    }
}

fn leaving(object: &TargetGroup, known_for: Duration, found: &Found) -> Leaving {
    let in_use = !found.load_balancers.is_empty();
    let delay = object.spec.deregistration_delay.into();
    deletion::leaving(known_for, delay, in_use.then_some(found.in_flight))
}

/// Tells snapshots of a valid group.
pub fn register(valid: &ValidTargetGroup, context: &Context) {
    context.registry.write(|accepted| {
        let same = accepted.target_groups.get(&valid.key).is_some_and(|present| **present == *valid);
        if !same {
            accepted.target_groups.insert(valid.key.clone(), Arc::new(valid.clone()));
        }
        !same
    });
}
