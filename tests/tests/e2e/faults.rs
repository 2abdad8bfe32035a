//! The shorter cut of the fault suite (`make faults` plays all of it): what is promised to lose nothing loses nothing.

use anyhow::{Context as _, Result};
use evenkeel_tests::cluster::alone;
use evenkeel_tests::faults::cases::CASES;
use evenkeel_tests::faults::run::{judge, run};
use evenkeel_tests::faults::stage::{Extent, Stage};

const CUT: [&str; 4] =
    ["scale-out-and-in", "rollout", "operator-killed-in-a-drain", "replica-answers-slowly"];

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn under_steady_load_no_request_is_lost_while_replicas_are_replaced_and_the_operator_is_killed()
-> Result<()> {
    alone("faults", async |ns| {
        let stage = Stage::set(ns, Extent::BRIEF).await?;
        for name in CUT {
            let case = CASES.iter().find(|case| case.name == name).context(name)?;
            judge(case, &run(case, &stage).await.context(name)?)?;
        }
        Ok(())
    })
    .await
}
