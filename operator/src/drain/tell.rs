//! Publishes what happens to replicas on their way out, beside the drains: no drain waits for an event.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::story::News;
use crate::events::Events;
use crate::registry::ValidReplicaService;

/// So many events may wait for the API server.
pub const BACKLOG: usize = 1024;

/// Publishes events one after the other, in their order, for as long as somebody sends them.
pub async fn tell(
    mut told: mpsc::Receiver<(Arc<ValidReplicaService>, News)>,
    events: Arc<Events>,
) -> &'static str {
    while let Some((service, news)) = told.recv().await {
        events.tell(&service, news.is_bad(), news.reason(), news.note()).await;
    }
    "events of drains"
}
