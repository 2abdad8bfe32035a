//! The show, from a cluster with nothing on it to a summary: installs Evenkeel, applies `examples/shop.yaml`, sends a
//! spike of traffic and shows what happens. Fails when a request failed, or when the replicas did not follow the load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use evenkeel_tests::conditions::{self, Conditioned as _};
use evenkeel_tests::demo::manifest::Manifest;
use evenkeel_tests::demo::observe::Observer;
use evenkeel_tests::demo::picture;
use evenkeel_tests::demo::show::Show;
use evenkeel_tests::demo::story::{Story, Summary};
use evenkeel_tests::environment::{Environment, repository};
use evenkeel_tests::install;
use evenkeel_tests::traffic::http;
use indicatif::{ProgressBar, ProgressStyle};
use kube::{Api, Client};

const NAMESPACE: &str = "evenkeel-demo";

#[tokio::main]
async fn main() -> Result<()> {
    let environment = Environment::read()?;
    let yaml = std::fs::read_to_string(repository().join("examples/shop.yaml"))
        .context("read examples/shop.yaml")?;
    let manifest = Manifest::parse(&yaml, &environment.demo_app_image).context("examples/shop.yaml")?;
    let client = Client::try_default().await.context("reach the cluster that KUBECONFIG names")?;
    let url = format!("http://{}:{}", environment.host, manifest.node_port);

    step("Installing Evenkeel with Helm", install::install(&environment, &[])).await?;
    step("Applying examples/shop.yaml", apply(&environment, &manifest)).await?;
    step("Waiting until the load balancer serves", ready(&client, &manifest, &url)).await?;

    let observer = Observer::start(client, NAMESPACE, &manifest).await?;
    let story = Story::new(manifest.target_percent, manifest.min, manifest.max);
    let (story, summary) = Show::new(&observer, url.clone(), story).play().await?;
    let drawn = repository().join("target/demo/summary.svg");
    std::fs::create_dir_all(repository().join("target/demo"))?;
    std::fs::write(&drawn, picture::svg(&story, &summary)).context("write the picture")?;
    tell(&summary, &url);
    ensure!(summary.failed == 0, "{} of {} requests failed", summary.failed, summary.requests);
    ensure!(summary.scaled_out, "the replicas did not go out to three times the minimum");
    ensure!(summary.scaled_in, "the replicas did not come back to the minimum");
    Ok(())
}

/// Does something while a line says what and for how long.
async fn step<T>(what: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let style = ProgressStyle::with_template("{spinner} {msg} … {elapsed}")?;
    let line = ProgressBar::new_spinner().with_style(style).with_message(what);
    line.enable_steady_tick(Duration::from_millis(100));
    let done = work.await.context(what);
    line.finish_and_clear();
    if done.is_ok() {
        println!("✓ {what}: {:.1} s", start.elapsed().as_secs_f64());
    }
    done
}

async fn apply(environment: &Environment, manifest: &Manifest) -> Result<()> {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
    environment.kubectl_with_input(["apply", "--server-side"], &namespace).await?;
    let arguments = ["--namespace", NAMESPACE, "apply", "--server-side"];
    environment.kubectl_with_input(arguments, &manifest.yaml).await.map(drop)
}

/// Waits until the load balancer is ready, exactly the minimum of replicas is healthy, and it answers.
async fn ready(client: &Client, manifest: &Manifest, url: &str) -> Result<()> {
    let balancers: Api<LoadBalancer> = Api::namespaced(client.clone(), NAMESPACE);
    conditions::until(&balancers, &manifest.balancer, "Programmed and Ready", |lb| {
        lb.is("Programmed") && lb.is("Ready")
    })
    .await?;
    let services: Api<ReplicaService> = Api::namespaced(client.clone(), NAMESPACE);
    conditions::until(&services, &manifest.service, "at its minimum and healthy", |service| {
        service
            .status
            .as_ref()
            .is_some_and(|status| (status.replicas, status.ready_replicas) == (manifest.min, manifest.min))
    })
    .await?;
    let groups: Api<TargetGroup> = Api::namespaced(client.clone(), NAMESPACE);
    conditions::until(&groups, &manifest.group, "healthy", |group| {
        group.status.as_ref().is_some_and(|status| status.targets.healthy == manifest.min)
    })
    .await?;
    conditions::eventually("an answer", async || http::replica(&http::get(url).await?).map(drop)).await
}

fn tell(summary: &Summary, url: &str) {
    println!("\n{}", if summary.succeeded() { "It held." } else { "It did not hold." });
    for (name, value) in summary.lines() {
        println!("  {name:<40} {value:>10}");
    }
    for (why, count) in &summary.failures {
        println!("  {:<40} {count:>10}", format!("failed: {why}"));
    }
    println!(
        "
The picture of it:  target/demo/summary.svg
It is still up; look around (`tests/cluster/cluster env` points kubectl at the local cluster):
  curl {url}/
  kubectl --namespace {NAMESPACE} get loadbalancers,targetgroups,replicaservices
  kubectl --namespace {NAMESPACE} describe replicaservice
  kubectl --namespace {NAMESPACE} edit replicaservice        # scaling.min, the CPU target, the template …
Clean up:
  kubectl delete namespace {NAMESPACE} && make uninstall     # only what the demo made
  make cluster-down                                          # the local cluster and every trace of it"
    );
}
