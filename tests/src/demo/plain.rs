//! The show where there is no terminal: a line per second.

use super::story::{Mark, Sample};

/// A second as a line.
pub fn line(sample: &Sample, target_percent: u16) -> String {
    let observed = &sample.observed;
    let cpu = observed.cpu_percent.map_or("   ?".into(), |cpu| format!("{cpu:4.0}"));
    format!(
        "{:>5.1} s  {:<5}  {:>5.0} req/s  p50 {:>6.1} ms  p99 {:>6.1} ms  failed {}  CPU {cpu} % of {target_percent} %  \
         replicas: desired {} ready {} draining {}",
        sample.at.as_secs_f64(),
        sample.phase,
        sample.rate,
        sample.p50.as_secs_f64() * 1e3,
        sample.p99.as_secs_f64() * 1e3,
        sample.failed,
        observed.desired,
        observed.ready.len(),
        observed.draining,
    )
}

/// Something worth telling, as a line.
pub fn mark(mark: &Mark) -> String {
    format!("{:>5.1} s  ▸ {}", mark.at.as_secs_f64(), mark.text)
}
