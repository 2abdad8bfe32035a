//! Serving a file instead of what an operator pushes.
//!
//! The file is looked at twice a second rather than watched: editors and mounted ConfigMaps replace files by renaming
//! others over them, by which a watch loses what it watches.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use evenkeel_proxy_api::snapshot::Snapshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::apply::{Applier, Reconcile};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no snapshot.
    #[error("{path}: {problem}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Line, column, field and what is wrong.
        problem: String,
    },
}

/// Serves a file, and takes it over again whenever it changes. A file that is bad from the start is an error; one that
/// turns bad later is logged, and what was good goes on. Ends never otherwise.
pub async fn run<L: Reconcile>(path: &Path, applier: &Applier<L>) -> Result<(), FileError> {
    let mut counter = 1;
    let mut seen = look(path).await;
    apply(load(path).await?, counter, applier).await;
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = look(path).await;
        if now == seen {
            continue;
        }
        seen = now;
        match load(path).await {
            Ok(snapshot) => {
                counter += 1;
                apply(snapshot, counter, applier).await;
            }
            Err(error) => {
                tracing::error!(%error, "the changed file is not taken over: what was in force goes on");
            }
        }
    }
}

/// What shows that a file changed: when it was written and how long it is.
async fn look(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn load(path: &Path) -> Result<Snapshot, FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
    let malformed = |error: serde_saphyr::Error| FileError::Malformed {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    // Whoever writes a file in place empties it first: that is not to say that everything shall go.
    if text.trim().is_empty() {
        let problem = "is empty; to serve nothing say `listeners: {}`".to_owned();
        return Err(FileError::Malformed { path: path.to_owned(), problem });
    }
    serde_saphyr::from_str(&text).map_err(malformed)
}

/// A file that says no version has that of its place among those that were read.
async fn apply<L: Reconcile>(mut snapshot: Snapshot, counter: u64, applier: &Applier<L>) {
    if snapshot.version == <_>::default() {
        snapshot.version.counter = counter;
    }
    let ack = applier.apply(&snapshot, Vec::new()).await;
    tracing::info!(
        listeners = snapshot.listeners.len(),
        target_groups = snapshot.target_groups.len(),
        rejections = ack.rejections.len(),
        "the file is in force"
    );
}

#[cfg(test)]
mod tests {
    use evenkeel_proxy_api::report::Rejection;

    use std::sync::Arc;

    use super::*;
    use crate::in_force::Core;
    use crate::metrics::Metrics;
    use crate::table::Table;

    struct NoSockets;

    impl Reconcile for NoSockets {
        async fn reconcile(&self, _table: Arc<Table>) -> Vec<Rejection> {
            Vec::new()
        }

        fn open(&self) -> Vec<Arc<crate::table::Listener>> {
            Vec::new()
        }
    }

    struct Scene {
        path: PathBuf,
        core: Arc<Core>,
        applier: Arc<Applier<NoSockets>>,
        _directory: tempfile::TempDir,
    }

    impl Scene {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("snapshot.yaml");
            std::fs::write(&path, text).unwrap();
            let core = Arc::new(Core::default());
            let applier = Arc::new(Applier::new(Arc::clone(&core), NoSockets, Arc::new(Metrics::default())));
            Self { path, core, applier, _directory: directory }
        }

        fn serve(&self) -> tokio::task::JoinHandle<Result<(), FileError>> {
            let (path, applier) = (self.path.clone(), Arc::clone(&self.applier));
            tokio::spawn(async move { run(&path, &applier).await })
        }

        fn ports(&self) -> Vec<u16> {
            self.core.table().listeners.values().map(|listener| listener.port).collect()
        }
    }

    fn text(port: u16) -> String {
        format!(
            "listeners:\n  http:\n    port: {port}\n    defaultAction: {{fixedResponse: {{statusCode: 404, contentType: text/plain}}}}\n"
        )
    }

    #[tokio::test]
    async fn a_file_is_served_and_taken_over_again_when_it_changes() {
        let scene = Scene::new(&text(8080));
        let mut applied = scene.core.applied();
        let _serving = scene.serve();
        applied.changed().await.unwrap();
        assert_eq!(scene.ports(), [8080]);
        // As editors do: another file, renamed over this one.
        let other = scene.path.with_extension("new");
        std::fs::write(&other, text(18080)).unwrap();
        std::fs::rename(&other, &scene.path).unwrap();
        applied.changed().await.unwrap();
        assert_eq!(scene.ports(), [18080]);
        assert_eq!(applied.borrow().counter, 2);
    }

    #[tokio::test]
    async fn a_file_that_turns_bad_changes_nothing_and_is_taken_over_when_it_is_repaired() {
        let scene = Scene::new(&text(8080));
        let mut applied = scene.core.applied();
        let serving = scene.serve();
        applied.changed().await.unwrap();
        std::fs::write(&scene.path, "listeners: {http: {prot: 80}}").unwrap();
        let mut looks = interval(LOOK_INTERVAL * 2);
        looks.tick().await;
        looks.tick().await;
        assert!(!serving.is_finished());
        assert_eq!(scene.ports(), [8080]);
        std::fs::write(&scene.path, text(18080)).unwrap();
        applied.changed().await.unwrap();
        assert_eq!(scene.ports(), [18080]);
    }

    #[tokio::test]
    async fn an_empty_file_is_no_snapshot() {
        let scene = Scene::new("\n");
        let error = run(&scene.path, &scene.applier).await.unwrap_err().to_string();
        assert!(error.contains("is empty"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_bad_from_the_start_is_an_error_with_line_and_field() {
        let scene = Scene::new("listeners:\n  http:\n    prot: 80\n");
        let error = run(&scene.path, &scene.applier).await.unwrap_err().to_string();
        assert!(
            error.contains("snapshot.yaml") && error.contains("line 3") && error.contains("prot"),
            "{error}"
        );
    }
}
