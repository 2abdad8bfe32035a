//! Every manifest in `examples/` can be applied as it is.

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::LoadBalancer;
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::conditions::{Conditioned as _, until};
use evenkeel_tests::demo::manifest::with_image;
use evenkeel_tests::environment::repository;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

/// The manifest with the image of this run, and with these node ports in the place of its own.
fn localized(yaml: &str, image: &str, ports: &[u16]) -> String {
    let mut ports = ports.iter();
    let mut pieces = yaml.split("nodePort: ");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for (piece, port) in pieces.zip(&mut ports) {
        let after = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        out.extend(["nodePort: ", &port.to_string(), after]);
    }
    with_image(&out, image)
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn every_example_is_accepted_and_its_load_balancers_become_programmed() -> Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(repository().join("examples"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "there are no examples");
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("a file name")?.to_owned();
        let yaml = std::fs::read_to_string(&file)?;
        with_namespace("example", async |ns| {
            let mut ports = Vec::new();
            for _ in yaml.matches("nodePort: ") {
                ports.push(ns.node_port().await?.number);
            }
            ns.kubectl_apply(&localized(&yaml, &ns.environment.demo_app_image, &ports)).await?;
            let balancers: Api<LoadBalancer> = ns.api();
            for balancer in balancers.list(&ListParams::default()).await? {
                until(&balancers, &balancer.name_any(), "Programmed", |lb: &LoadBalancer| {
                    lb.is("Programmed")
                })
                .await?;
            }
            Ok(())
        })
        .await
        .with_context(|| format!("examples/{name}.yaml"))?;
    }
    Ok(())
}
