//! Nodes are emptied and replicas evicted, and nobody notices.

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::cluster::{Namespace, alone, with_namespace};
use evenkeel_tests::conditions::{until, until_gone};
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use crate::rollout::Departures;

const REPLICAS: &str = "evenkeel.dev/replica-service=web";

async fn replicas(ns: &Namespace) -> Result<Vec<Pod>> {
    Ok(ns.api::<Pod>().list(&ListParams::default().labels(REPLICAS)).await?.items)
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

async fn until_settled(ns: &Namespace, count: i32) -> Result<()> {
    until(&ns.api::<Deployment>(), "web", &format!("back at {count} replicas"), |deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        [wanted, status.replicas, status.ready_replicas] == [Some(count); 3]
    })
    .await
    .map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn a_node_that_is_drained_is_left_by_every_replica_and_no_request_is_lost() -> Result<()> {
    alone("drain", async |ns| {
        let port = ns.serve_web(3).await?;
        let quick = port.load(Pace::Rate(50));
        let slow = Client::http1(port.url("/slow?s=3"));
        let slow = Load::start(&slow, Pace::Connections(6), Recorder::default());
        slow.further(6).await?;
        let departures = Departures::watch(ns);

        let pods = replicas(ns).await?;
        let emptied = pods.first().and_then(node).context("a replica on a node")?.to_owned();
        let leaving = pods.iter().filter(|pod| node(pod) == Some(&emptied)).count();
        let selector = format!("--pod-selector={REPLICAS}");
        let drain = ["drain", &emptied, &selector, "--delete-emptydir-data", "--timeout=60s"];
        let drained = async {
            ns.environment.kubectl(drain).await?;
            until_settled(ns, 3).await
        }
        .await;
        ns.environment.kubectl(["uncordon", &emptied]).await?; // in any case: others need it
        drained?;

        let stayed = replicas(ns).await?.iter().filter(|pod| node(pod) == Some(&emptied)).count();
        ensure!(stayed == 0, "{stayed} replicas are still on {emptied}");
        quick.further(50).await?;
        quick.succeeded().await?;
        slow.succeeded().await?;
        departures.were_drained(leaving)
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn an_eviction_is_held_until_another_replica_serves_and_the_old_one_was_drained() -> Result<()> {
    with_namespace("evict", async |ns| {
        let port = ns.serve_web(2).await?;
        let load = port.load(Pace::Rate(50));
        let departures = Departures::watch(ns);
        let victim = replicas(ns).await?.first().context("a replica")?.name_any();

        let path = format!("/api/v1/namespaces/{}/pods/{victim}/eviction", ns.name);
        let metadata = json!({"name": victim, "namespace": ns.name});
        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}).to_string();
        let create = ["create", "--raw", &path];
        let held = ns.environment.kubectl_with_input(create, &eviction).await;
        let said = held.err().context("it went through")?.to_string();
        ensure!(said.contains("another replica is started first"), "{said}");

        until_gone(&ns.api::<Pod>(), &victim).await?;
        until_settled(ns, 2).await?;
        load.further(50).await?;
        load.succeeded().await?;
        departures.were_drained(1)
    })
    .await
}
