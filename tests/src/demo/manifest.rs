//! `examples/shop.yaml`: what the show is played on.

use anyhow::{Context as _, Result, anyhow};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The manifest, and what the show must know of it.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What is applied.
    pub yaml: String,
    /// Name of the LoadBalancer.
    pub balancer: String,
    /// The port on every node that leads to it.
    pub node_port: u16,
    /// Name of the TargetGroup.
    pub group: String,
    /// Name of the ReplicaService.
    pub service: String,
    /// Its `scaling.min`.
    pub min: i32,
    /// Its `scaling.max`.
    pub max: i32,
    /// The CPU utilisation that it keeps, in percent.
    pub target_percent: u16,
    /// What a replica requests, in thousandths of a CPU.
    pub request_millicpu: f64,
}

impl Manifest {
    /// Reads a manifest, and lets its replicas run `image`.
    ///
    /// # Errors
    /// When it is not YAML, or lacks something that the show needs.
    pub fn parse(yaml: &str, image: &str) -> Result<Self> {
        let yaml = with_image(yaml, image);
        let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml)?;
        let balancer: LoadBalancer = of_kind(&documents, "LoadBalancer")?;
        let service: ReplicaService = of_kind(&documents, "ReplicaService")?;
        let listener = balancer.spec.listeners.first().context("the load balancer has no listener")?;
        let policy = service.spec.scaling.policies.first().context("the replicas have no policy")?;
        let request = "/spec/containers/0/resources/requests/cpu";
        let request = service.spec.template.pointer(request).context("the replicas request no CPU")?;
        Ok(Self {
            balancer: balancer.name_any(),
            node_port: listener.node_port.context("the first listener has no nodePort")?,
            group: of_kind::<TargetGroup>(&documents, "TargetGroup")?.name_any(),
            service: service.name_any(),
            min: service.spec.scaling.min,
            max: service.spec.scaling.max,
            target_percent: policy.target_tracking.target_percent,
            request_millicpu: millicpu(request.as_str().context("the CPU request is no text")?)?,
            yaml,
        })
    }
}

/// The amount of CPU in a Kubernetes quantity, in thousandths.
///
/// # Errors
/// When it is none.
pub fn millicpu(quantity: &str) -> Result<f64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let per_unit = match &quantity[digits.len()..] {
        "n" => 1e-6,
        "u" => 1e-3,
        "m" => 1.0,
        "" => 1e3,
        unit => return Err(anyhow!("{quantity}: unknown unit {unit}")),
    };
    Ok(digits.parse::<f64>().with_context(|| format!("{quantity} is no quantity"))? * per_unit)
}

fn of_kind<K: DeserializeOwned>(documents: &[Value], kind: &str) -> Result<K> {
    let document = documents.iter().find(|document| document["kind"] == kind);
    let document = document.with_context(|| format!("the manifest has no {kind}"))?;
    serde_json::from_value(document.clone()).with_context(|| format!("the {kind} of the manifest"))
}

/// Replaces the image of the application, wherever the manifest takes it from.
pub fn with_image(yaml: &str, image: &str) -> String {
    let replace = |line: &str| match line.split_once("image:") {
        Some((before, rest)) if rest.contains("evenkeel-demo-app") => format!("{before}image: {image}\n"),
        _ => format!("{line}\n"),
    };
    yaml.lines().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_cpu_are_read_in_every_unit() {
        for (quantity, expected) in
            [("250m", 250.0), ("2", 2000.0), ("0.5", 500.0), ("1500000n", 1.5), ("70u", 0.07)]
        {
            assert!((millicpu(quantity).unwrap() - expected).abs() < 1e-9, "{quantity}");
        }
        for quantity in ["", "m", "5Ki", "five"] {
            assert!(millicpu(quantity).is_err(), "{quantity:?}");
        }
    }

    #[test]
    fn the_image_is_replaced_and_nothing_else() {
        let yaml = "a: 1\n- image: evenkeel-demo-app:0.1.0\n  image: other:1\n";
        assert_eq!(with_image(yaml, "x:2"), "a: 1\n- image: x:2\n  image: other:1\n");
    }
}
