//! What is shown of the certificate authority.

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::rotation::Phase;

/// Gauges of the certificate authority. They say nothing while this operator does not lead.
#[derive(Clone, Debug)]
pub struct Metrics {
    expiry: Family<CertificateLabel, Gauge>,
    rotation: Family<PhaseLabel, Gauge>,
    awaited: Gauge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Certificate {
    Authority,
    Serving,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: Phase,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { expiry: Family::default(), rotation: Family::default(), awaited: Gauge::default() };
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate authority and the serving certificate expire, in seconds since 1970",
            metrics.expiry.clone(),
        );
        registry.register(
            "ca_rotation",
            "1 for the phase that the certificate authority is in",
            metrics.rotation.clone(),
        );
        registry.register(
            "ca_awaited_proxies",
            "Live proxies that have not said that they trust the newest certificate authority",
            metrics.awaited.clone(),
        );
        metrics
    }

    /// Shows how things are.
    pub(super) fn show(&self, phase: Phase, authority: Timestamp, serving: Timestamp, awaited: usize) {
        for (certificate, expires) in [(Certificate::Authority, authority), (Certificate::Serving, serving)] {
            self.expiry.get_or_create(&CertificateLabel { certificate }).set(expires.as_second());
        }
        for each in [Phase::Settled, Phase::Published, Phase::Promoted] {
            self.rotation.get_or_create(&PhaseLabel { phase: each }).set(i64::from(each == phase));
        }
        self.awaited.set(i64::try_from(awaited).unwrap_or(i64::MAX));
    }

    /// Shows nothing any more when dropped: what another leader does is not known here.
    pub(super) fn until_dropped(&self) -> Shown {
        Shown(self.clone())
    }
}

/// See [`Metrics::until_dropped`].
pub(super) struct Shown(Metrics);

impl Drop for Shown {
    fn drop(&mut self) {
        let Metrics { expiry, rotation, awaited } = &self.0;
        expiry.clear();
        rotation.clear();
        awaited.set(0);
    }
}
