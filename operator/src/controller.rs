//! Runs one kind's reconciliations: one at a time per object, several objects at once, again with growing pauses after
//! an error.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Resource;
use kube::runtime::controller::{Action, Config, Controller, Error as Queue};
use kube::runtime::reflector::Store;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{error, warn};

use crate::caches::Guarded;
use crate::conditions::reason;
use crate::context::Context;
use crate::error::Error;
use crate::metrics::{Kind, Outcome};
use crate::object_key::{ObjectKey, key};
use crate::reconciled::Reconciled;
use crate::wakes::Inbox;

/// Objects of one kind that are reconciled at once.
const CONCURRENCY: u16 = 8;
/// The pause after the first error; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A kind that has a controller.
pub trait Reconcile:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
    /// Its name in metrics and logs.
    const KIND: Kind;

    /// Accepts the object if it is valid, and does nothing else.
    fn accept(&self, context: &Context);

    /// Brings the cluster to where the object wants it.
    fn reconcile(&self, context: &Context) -> impl Future<Output = Result<Reconciled, Error>> + Send;
}

/// Reconciles what `inbox` names, for ever.
pub async fn run<K: Reconcile>(store: Store<Guarded<K>>, inbox: Inbox<K>, context: Arc<Context>) {
    let kind = K::KIND;
    let retries = Arc::new(Retries::default());
    let forgotten = retries.clone();
    let attempt = {
        let retries = retries.clone();
        move |object: Arc<Guarded<K>>, context: Arc<Context>| {
            let retries = retries.clone();
            async move { attempt(&object, &context, &retries).await }
        }
    };
    let policy = move |object: Arc<Guarded<K>>, error: &Error, _: Arc<Context>| {
        let pause = retries.next(&key(&*object), fastrand::f64());
        warn!(?kind, object = %key(&*object), %error, again_in = ?pause, "could not reconcile");
        Action::requeue(pause)
    };
    Controller::for_stream(stream::pending(), store)
        .reconcile_on(UnboundedReceiverStream::new(inbox))
        .with_config(Config::default().concurrency(CONCURRENCY))
        .run(attempt, policy, context.clone())
        .for_each(|result| {
            match result {
                Ok(_) | Err(Queue::ReconcilerFailed(..)) => {} // logged above
                Err(Queue::ObjectNotFound(gone)) => {
                    let key = ObjectKey::new(gone.namespace.unwrap_or_default(), gone.name);
                    forgotten.forget(&key);
                    context.deletions.forget::<K>(&key);
                    context.statuses.forget::<K>(&key);
                    context.registry.versions.forget::<K>(&key);
                }
                Err(error) => error!(?kind, %error, "the queue of reconciliations failed"),
            }
            ready(())
        })
        .await;
}

async fn attempt<K: Reconcile>(
    object: &Guarded<K>,
    context: &Context,
    retries: &Retries,
) -> Result<Action, Error> {
    let started = Instant::now();
    let result = reconcile(object, context).await;
    context.metrics.reconciled(K::KIND, outcome(&result), started.elapsed());
    if result.is_ok() {
        retries.forget(&key(object));
    }
    result.map(action)
}

async fn reconcile<K: Reconcile>(object: &Guarded<K>, context: &Context) -> Result<Reconciled, Error> {
    match &object.0 {
        Ok(object) => object.reconcile(context).await,
        Err(invalid) => {
            context.events.repeat(object, true, reason::MALFORMED, invalid.error.clone()).await;
            Ok(Reconciled::Invalid)
        }
    }
}

fn outcome(result: &Result<Reconciled, Error>) -> Outcome {
    match result {
        Ok(Reconciled::Invalid) => Outcome::Invalid,
        Ok(Reconciled::Done | Reconciled::Later(_)) => Outcome::Success,
        Err(_) => Outcome::Error,
    }
}

fn action(reconciled: Reconciled) -> Action {
    match reconciled {
        Reconciled::Done | Reconciled::Invalid => Action::await_change(),
        Reconciled::Later(pause) => Action::requeue(pause),
    }
}

/// How often each object failed in a row.
#[derive(Default)]
struct Retries(Mutex<HashMap<ObjectKey, u32>>);

impl Retries {
    /// The pause before the next attempt; `chance` from 0 to 1 spreads objects that failed together.
    fn next(&self, object: &ObjectKey, chance: f64) -> Duration {
        let mut failures = self.0.lock();
        let failures = failures.entry(object.clone()).or_default();
        let pause = FIRST_RETRY.saturating_mul(1 << (*failures).min(10)).min(LAST_RETRY);
        *failures = failures.saturating_add(1);
        pause.mul_f64(0.75 + chance / 4.0)
    }

    fn forget(&self, object: &ObjectKey) {
        self.0.lock().remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_a_success() {
        let retries = Retries::default();
        let [a, b] = ["a", "b"].map(|name| ObjectKey::new("default", name));
        let pauses: Vec<u128> = (0..9).map(|_| retries.next(&a, 1.0).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(retries.next(&b, 0.0).as_millis(), 375, "jitter shortens by up to a quarter");
        retries.forget(&a);
        assert_eq!(retries.next(&a, 1.0), FIRST_RETRY);
    }

    #[test]
    fn an_invalid_object_waits_for_a_change_and_a_failure_does_not() {
        assert_eq!(action(Reconciled::Invalid), Action::await_change());
        assert_eq!(outcome(&Ok(Reconciled::Invalid)), Outcome::Invalid);
        let sooner = Reconciled::Later(Duration::from_secs(5)).and(Reconciled::Later(Duration::from_secs(1)));
        assert_eq!(sooner.and(Reconciled::Done), Reconciled::Later(Duration::from_secs(1)));
    }
}
