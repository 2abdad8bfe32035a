//! What pods use, from the resource metrics API: one list per namespace, asked for when a new sample is due.

mod schedule;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::labels::REPLICA_SERVICE;
use schedule::Schedule;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a pod used in a window of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When the window began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// Cores by container.
    pub cores: HashMap<String, f64>,
}

/// The last samples of a namespace, by pod name.
pub type Samples = HashMap<String, Sample>;

/// What is known of a namespace's pods.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last samples; nothing before the first answer.
    pub samples: Arc<Samples>,
    /// Why the API gave no answer the last time, if so.
    pub failure: Option<String>,
    /// It was asked at least once.
    pub asked: bool,
}

/// Why the API gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody serves the API.
    #[error(
        "the resource metrics API is not there: install metrics-server \
         (kubectl apply -f https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml)"
    )]
    Absent,
    /// It failed.
    #[error("the resource metrics API failed: {0}; look at the logs of metrics-server")]
    Api(kube::Error),
    /// It did not answer.
    #[error("the resource metrics API did not answer in time; look at the logs of metrics-server")]
    Timeout,
}

#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    cpu: String,
}

/// Follows one namespace until dropped.
pub async fn follow(client: Client, namespace: String, known: Arc<RwLock<Known>>, news: Arc<Notify>) {
    let mut schedule = Schedule::new(Instant::now());
    let mut newest = None;
    loop {
        sleep_until(schedule.next()).await;
        let answer = list(&client, &namespace).await;
        let now = Instant::now();
        let failure = answer.as_ref().err().map(ToString::to_string);
        match answer {
            Ok(samples) => {
                let latest = samples.values().map(|sample| sample.to).max();
                let fresh = latest > newest;
                newest = latest.max(newest);
                schedule.asked(fresh, now);
                known.write().samples = Arc::new(samples);
                if fresh {
                    debug!(namespace, "new samples");
                    news.notify_one();
                }
            }
            Err(_) => schedule.failed(now),
        }
        let mut known = known.write();
        known.asked = true;
        if known.failure != failure {
            if let Some(failure) = &failure {
                warn!(namespace, failure, "no metrics of pods: nothing scales until there are some");
            }
            known.failure = failure;
            news.notify_one();
        }
    }
}

async fn list(client: &Client, namespace: &str) -> Result<Samples, Error> {
    let selector = REPLICA_SERVICE.replace('/', "%2F");
    let uri = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
    let request = http::Request::get(uri)
        .body(Vec::new())
        .map_err(|error| Error::Api(kube::Error::HttpError(error)))?;
    let answer = timeout(REQUEST_TIMEOUT, client.request::<PodMetricsList>(request)).await;
    match answer.map_err(|_| Error::Timeout)? {
        Ok(list) => Ok(list.items.into_iter().filter_map(sample).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::Absent),
        Err(error) => Err(Error::Api(error)),
    }
}

fn sample(metrics: PodMetrics) -> Option<(String, Sample)> {
    let PodMetrics { metadata, timestamp, window, containers } = metrics;
    let window: Duration = kube::core::Duration::from_str(&window).ok()?.into();
    let cores = containers.into_iter().map(|container| Some((container.name, cores(&container.usage.cpu)?)));
    let sample = Sample {
        from: timestamp.checked_sub(jiff::SignedDuration::try_from(window).ok()?).ok()?,
        to: timestamp,
        cores: cores.collect::<Option<_>>()?,
    };
    Some((metadata.name, sample))
}

/// Cores of a quantity such as `250m`, `1`, `0.5` or `1500000n`.
pub fn cores(quantity: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 5] = [("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("k", 1e3), ("M", 1e6)];
    let (number, unit) = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((quantity.strip_suffix(suffix)?, *unit)))
        .unwrap_or((quantity, 1.0));
    let cores = number.parse::<f64>().ok()? * unit;
    (cores.is_finite() && cores >= 0.0).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let table = [
            ("250m", Some(0.25)),
            ("1", Some(1.0)),
            ("0.5", Some(0.5)),
            ("1500000n", Some(0.0015)),
            ("12u", Some(0.000_012)),
            ("2k", Some(2000.0)),
            ("1e3", Some(1000.0)),
            ("", None),
            ("-1", None),
            ("nan", None),
            ("1x", None),
        ];
        for (text, expected) in table {
            match (cores(text), expected) {
                (Some(got), Some(expected)) => assert!((got - expected).abs() < 1e-12, "{text}: {got}"),
                (got, expected) => assert_eq!(got, expected, "{text}"),
            }
        }
    }

    #[test]
    fn a_sample_says_when_its_window_began() {
        let list: PodMetricsList = serde_json::from_value(serde_json::json!({"items": [{
            "metadata": {"name": "api-1"}, "timestamp": "2026-01-01T00:00:30Z", "window": "10.5s",
            "containers": [{"name": "app", "usage": {"cpu": "120m", "memory": "1Mi"}}]
        }]}))
        .unwrap();
        let (name, sample) = list.items.into_iter().find_map(sample).unwrap();
        assert_eq!(name, "api-1");
        assert_eq!(sample.from.to_string(), "2026-01-01T00:00:19.5Z");
        assert!((sample.cores["app"] - 0.12).abs() < 1e-12);
    }
}
