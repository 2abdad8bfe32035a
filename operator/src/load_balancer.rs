//! LoadBalancer: dereference → validate → build → apply → status.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod status;
pub mod validate;

use std::sync::Arc;

use evenkeel_crds::v1alpha1::LoadBalancer;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Resource;

use crate::caches::Guarded;
use crate::conditions::reason;
use crate::context::Context;
use crate::controller::Reconciled;
use crate::error::Error;
use crate::finalizer;
use crate::labels::DELETION_PROTECTION;

/// Brings the cluster to where the object wants it.
pub fn reconcile(
    object: Arc<Guarded<LoadBalancer>>,
    context: Arc<Context>,
) -> BoxFuture<'static, Result<Reconciled, Error>> {
    async move {
        match &object.0 {
            Ok(balancer) => reconcile_one(balancer, &context).await,
            Err(invalid) => {
                context.events.publish(&*object, true, reason::MALFORMED, invalid.error.clone()).await;
                Ok(Reconciled::Invalid)
            }
        }
    }
    .boxed()
}

async fn reconcile_one(object: &LoadBalancer, context: &Context) -> Result<Reconciled, Error> {
    let protected = object.spec.deletion_protection;
    finalizer::ensure(&context.client, object, DELETION_PROTECTION, protected).await?;
    if object.meta().deletion_timestamp.is_some() && !protected {
        return Ok(Reconciled::Done); // What it owns goes with it.
    }
    let found = dereference::dereference(object, context); // no client
    let checked = validate::validate(object); // no client
    let outcome = match &checked {
        Ok(valid) => apply::apply(object, valid, &found, context).await?, // build inside, client
        Err(_) => apply::Outcome::kept(&found),
    };
    let inputs = status::Inputs { object, checked: &checked, found: &found, outcome: &outcome };
    let written = status::write(&inputs, context, Timestamp::now()).await?; // client
    Ok(if checked.is_err() { Reconciled::Invalid } else { Reconciled::Done }
        .and(outcome.again())
        .and(written))
}
