//! ReplicaService: dereference → validate → build → apply → status.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::ReplicaService;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Resource;

use self::dereference::Found;
use crate::caches::Guarded;
use crate::conditions::reason;
use crate::context::Context;
use crate::controller::Reconciled;
use crate::deletion::{self, Leaving};
use crate::error::Error;
use crate::finalizer;
use crate::labels::DRAIN;

/// Brings the cluster to where the object wants it.
pub fn reconcile(
    object: Arc<Guarded<ReplicaService>>,
    context: Arc<Context>,
) -> BoxFuture<'static, Result<Reconciled, Error>> {
    async move {
        match &object.0 {
            Ok(service) => reconcile_one(service, &context).await,
            Err(invalid) => {
                context.events.publish(&*object, true, reason::MALFORMED, invalid.error.clone()).await;
                Ok(Reconciled::Invalid)
            }
        }
    }
    .boxed()
}

async fn reconcile_one(object: &ReplicaService, context: &Context) -> Result<Reconciled, Error> {
    let now = Timestamp::now();
    let found = dereference::dereference(object, context); // no client
    let checked = validate::validate(object); // no client
    if let Ok(valid) = &checked {
        apply::register(valid, context);
    }
    let leaving = leaving(object, &found, now);
    let keeps = leaving.map_or(!found.balancers.is_empty(), |leaving| leaving != Leaving::Gone);
    finalizer::ensure(&context.client, object, DRAIN, keeps).await?; // client
    let outcome = match (&checked, leaving) {
        (_, Some(Leaving::Gone)) => return Ok(Reconciled::Done),
        (Ok(valid), None) => apply::apply(object, valid, &found, context).await?, // build inside, client
        (Ok(_), Some(Leaving::Draining)) | (Err(_), _) => apply::Outcome::kept(&found),
    };
    let inputs = status::Inputs { object, checked: &checked, found: &found, outcome: &outcome };
    let written = status::write(&inputs, context, now).await?; // client
    let again = leaving.map_or(Reconciled::Done, Leaving::again);
    Ok(if checked.is_err() { Reconciled::Invalid } else { Reconciled::Done }.and(again).and(written))
}

fn leaving(object: &ReplicaService, found: &Found, now: Timestamp) -> Option<Leaving> {
    let since = object.meta().deletion_timestamp.as_ref()?.0;
    let in_flight = found.deregistration_delay.map(|_| found.in_flight);
    let delay = found.deregistration_delay.unwrap_or(Duration::ZERO);
    Some(deletion::leaving(since, now, delay, in_flight))
}
