//! LoadBalancer: dereference → validate → build → apply → status.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod status;
pub mod validate;

use evenkeel_crds::v1alpha1::LoadBalancer;
use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;

use crate::context::Context;
use crate::controller::Reconcile;
use crate::error::Error;
use crate::finalizer;
use crate::labels::DELETION_PROTECTION;
use crate::last_accepted::{in_force, keep};
use crate::metrics::Kind;
use crate::reconciled::Reconciled;

impl Reconcile for LoadBalancer {
    const KIND: Kind = Kind::LoadBalancer;

    fn accept(&self, context: &Context) {
        let checked = context.registry.versions.check(self, validate::validate);
        if let Some(valid) = in_force(&checked) {
            apply::register(valid, context);
        }
    }

    async fn reconcile(&self, context: &Context) -> Result<Reconciled, Error> {
        let protected = self.spec.deletion_protection;
        finalizer::ensure(&context.client, self, DELETION_PROTECTION, protected).await?;
        if self.meta().deletion_timestamp.is_some() && !protected {
            return Ok(Reconciled::Done); // What it owns goes with it.
        }
        let found = dereference::dereference(self, context); // no client
        let checked = context.registry.versions.check(self, validate::validate); // no client
        let outcome = match &checked {
            Ok(valid) => apply::apply(self, valid, &found, context).await?, // build inside, client
            Err(refused) => {
                if let Some(earlier) = &refused.earlier {
                    apply::register(earlier, context);
                }
                apply::Outcome::kept(&found)
            }
        };
        let checked = keep(&context.client, &context.registry.versions, self, checked).await?; // client
        let inputs = status::Inputs { object: self, checked: &checked, found: &found, outcome: &outcome };
        let written = context
            .statuses
            .update(self, |old| status::status(&inputs, old, Timestamp::now()), Instant::now())
            .await?;
        Ok(if checked.is_err() { Reconciled::Invalid } else { Reconciled::Done }
            .and(outcome.again())
            .and(written))
    }
}
