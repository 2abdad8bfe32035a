//! Wall clocks that are set, those of one pod at a time: forth in the middle of a drain, then back.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::Value;

use super::cases::{begin_rollout, choose, until_replaced};
use super::control::{begin_drain, leaders_uid};
use super::machine::set_clock;
use super::stage::{REPLICAS, Stage, uid};
use crate::conditions::{eventually, until};
use crate::environment::SYSTEM;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// What is no matter of how long an answer takes.
const NEARLY: SignedDuration = SignedDuration::from_mins(1);

pub(super) async fn leaders_clock_set(stage: &Stage<'_>) -> Result<()> {
    let leader = leaders_uid(&stage.ns.client).await?;
    let set = async |ahead: SignedDuration| {
        set_clock(ahead.as_secs(), &leader).await?;
        until_the_lease_is(stage, ahead).await
    };
    let meanwhile = async {
        begin_drain(stage).await?;
        set(HOUR).await?;
        stage.until_well(2).await?;
        stage.scale(REPLICAS).await?;
        let before = begin_rollout(stage).await?;
        set(-HOUR).await?;
        until_replaced(stage, &before).await
    };
    let meanwhile = meanwhile.await;
    let right = set(SignedDuration::ZERO).await;
    meanwhile.and(right)
}

pub(super) async fn proxys_clock_set(stage: &Stage<'_>) -> Result<()> {
    let proxy = choose(stage.proxies().await?)?;
    let set = async |ahead: SignedDuration| set_clock(ahead.as_secs(), uid(&proxy)?).await;
    let meanwhile = async {
        begin_drain(stage).await?;
        set(HOUR).await?;
        stage.until_well(2).await?;
        set(-HOUR).await?;
        stage.scale(REPLICAS).await?;
        until_a_line_is(stage, &proxy, -HOUR).await
    };
    let meanwhile = meanwhile.await;
    let right = set(SignedDuration::ZERO).await;
    meanwhile.and(right)
}

/// Whoever leads says in its Lease what time it is.
async fn until_the_lease_is(stage: &Stage<'_>, ahead: SignedDuration) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(stage.ns.client.clone(), SYSTEM);
    let is_ahead = |lease: &Lease| {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|time| is_by(ahead, time.0))
    };
    let what = format!("renewed by a clock that is {ahead:#} ahead");
    until(&leases, "evenkeel-operator", &what, is_ahead)
        .await
        .map(drop)
        .context("the leader's clock is not set")
}

/// A proxy dates each line that it logs, such as that the new replica is healthy.
async fn until_a_line_is(stage: &Stage<'_>, proxy: &Pod, ahead: SignedDuration) -> Result<()> {
    eventually("a line of the proxy by its clock", async || {
        let log = stage.ns.kubectl(&["logs", &proxy.name_any(), "--tail=1"]).await?;
        let line: Value = serde_json::from_str(&log)?;
        let time: Timestamp =
            line.get("timestamp").and_then(Value::as_str).context("no timestamp")?.parse()?;
        ensure!(is_by(ahead, time), "not by a clock that is {ahead:#} ahead: {log}");
        Ok(())
    })
    .await
}

fn is_by(ahead: SignedDuration, time: Timestamp) -> bool {
    (time.duration_since(Timestamp::now()) - ahead).abs() < NEARLY
}
