//! Wall clocks that are set, those of one pod at a time: forth in the middle of a drain, then back.

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::cases::{begin_rollout, choose, until_replaced};
use super::control::{begin_drain, leader};
use super::machine::set_clock;
use super::stage::{REPLICAS, Stage, uid};
use crate::conditions::until;
use crate::environment::SYSTEM;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// What is no matter of how long an answer takes.
const NEARLY: SignedDuration = SignedDuration::from_mins(1);

pub(super) async fn leaders_clock_set(stage: &Stage<'_>) -> Result<()> {
    let leader = leader(&stage.ns.client).await?;
    let pods: Api<Pod> = Api::namespaced(stage.ns.client.clone(), SYSTEM);
    let leader = uid(&pods.get(&leader).await?)?.to_owned();
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
    set(SignedDuration::ZERO).await?;
    meanwhile
}

pub(super) async fn proxys_clock_set(stage: &Stage<'_>) -> Result<()> {
    let proxy = choose(stage.proxies().await?)?;
    let set = async |ahead: SignedDuration| set_clock(ahead.as_secs(), uid(&proxy)?).await;
    let meanwhile = async {
        begin_drain(stage).await?;
        set(HOUR).await?;
        stage.until_well(2).await?;
        set(-HOUR).await?;
        stage.scale(REPLICAS).await
    };
    let meanwhile = meanwhile.await;
    set(SignedDuration::ZERO).await?;
    meanwhile
}

/// Whoever leads says in its Lease what time it is.
async fn until_the_lease_is(stage: &Stage<'_>, ahead: SignedDuration) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(stage.ns.client.clone(), SYSTEM);
    let is_ahead = |lease: &Lease| {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|time| (time.0.duration_since(Timestamp::now()) - ahead).abs() < NEARLY)
    };
    let what = format!("renewed by a clock that is {ahead:#} ahead");
    until(&leases, "evenkeel-operator", &what, is_ahead)
        .await
        .map(drop)
        .context("the leader's clock is not set")
}
