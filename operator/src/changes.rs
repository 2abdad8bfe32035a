//! Who changed: streams of object keys, each told once however often it changed since somebody listened.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use futures::Stream;
use futures::stream::unfold;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::object_key::ObjectKey;

/// Tells listeners which objects changed. Bounded by the number of objects, never blocking.
#[derive(Debug, Default)]
pub struct Changes {
    listeners: Mutex<Vec<Weak<Listener>>>,
}

#[derive(Debug, Default)]
struct Listener {
    changed: Mutex<BTreeSet<ObjectKey>>,
    wake: Notify,
}

impl Changes {
    /// Says that an object changed.
    pub fn send(&self, key: &ObjectKey) {
        self.listeners.lock().retain(|listener| {
            let Some(listener) = listener.upgrade() else { return false };
            listener.changed.lock().insert(key.clone());
            listener.wake.notify_one();
            true
        });
    }

    /// What changes from now on.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        let listener = Arc::new(Listener::default());
        self.listeners.lock().push(Arc::downgrade(&listener));
        unfold(listener, |listener| async move {
            loop {
                let next = listener.changed.lock().pop_first();
                if let Some(key) = next {
                    return Some((key, listener));
                }
                // A wake-up that comes before this is kept.
                listener.wake.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_listener_hears_of_each_object_once_however_often_it_changed() {
        let changes = Changes::default();
        let mut heard = Box::pin(changes.subscribe());
        for name in ["a", "b", "a", "a"] {
            changes.send(&ObjectKey::new("default", name));
        }
        assert_eq!(heard.next().await.unwrap().name, "a");
        assert_eq!(heard.next().await.unwrap().name, "b");
        changes.send(&ObjectKey::new("default", "c"));
        assert_eq!(heard.next().await.unwrap().name, "c");
        assert!(futures::poll!(heard.next()).is_pending());
    }

    #[test]
    fn a_listener_that_is_gone_is_forgotten() {
        let changes = Changes::default();
        drop(changes.subscribe());
        changes.send(&ObjectKey::new("default", "a"));
        assert!(changes.listeners.lock().is_empty());
    }
}
