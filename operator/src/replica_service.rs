//! ReplicaService: dereference → validate → build → apply → status.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod rollout;
pub mod status;
pub mod templates;
pub mod validate;

use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use jiff::Timestamp;
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

impl Reconcile for ReplicaService {
    const KIND: Kind = Kind::ReplicaService;

    fn accept(&self, context: &Context) {
        let checked = context.registry.versions.check(self, validate::validate);
        if let Some(valid) = in_force(&checked) {
            apply::register(valid, context);
        }
    }

    async fn reconcile(&self, context: &Context) -> Result<Reconciled, Error> {
        let now = Timestamp::now();
        let found = dereference::dereference(self, context); // no client
        let checked = context.registry.versions.check(self, validate::validate); // no client
        if let Some(valid) = in_force(&checked) {
            apply::register(valid, context);
        }
        let known_for = context.deletions.known_for(self, Instant::now());
        let leaving = known_for.map(|known_for| leaving(known_for, &found));
        let keeps = leaving.map_or(!found.balancers.is_empty(), |leaving| leaving != Leaving::Gone);
        finalizer::ensure(&context.client, self, DRAIN, keeps).await?; // client
        let outcome = match (&checked, leaving) {
            (_, Some(Leaving::Gone)) => return Ok(Reconciled::Done),
            (Ok(valid), None) => apply::apply(self, valid, &found, context, now).await?, // build inside, client
            (Ok(_), Some(Leaving::Draining)) | (Err(_), _) => apply::Outcome::kept(&found),
        };
        let checked = keep(&context.client, &context.registry.versions, self, checked).await?; // client
        let inputs = status::Inputs { object: self, checked: &checked, found: &found, outcome: &outcome };
        let written =
            context.statuses.update(self, |old| status::status(&inputs, old, now), Instant::now()).await?;
        let again = leaving.map_or(Reconciled::Done, Leaving::again);
        let again = again.and(outcome.again.map_or(Reconciled::Done, Reconciled::Later));
        Ok(if checked.is_err() { Reconciled::Invalid } else { Reconciled::Done }.and(again).and(written))
    }
}

fn leaving(known_for: Duration, found: &Found) -> Leaving {
    let in_flight = found.deregistration_delay.map(|_| found.in_flight);
    deletion::leaving(known_for, found.deregistration_delay.unwrap_or_default(), in_flight)
}
