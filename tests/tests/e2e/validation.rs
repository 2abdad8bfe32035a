//! The tables in `crds/tests/cases`, put to the real API server.

#[path = "../../../crds/tests/cases/mod.rs"]
mod cases;

use anyhow::{Context as _, Result, bail, ensure};
use cases::Case;
use evenkeel_tests::cluster::{Namespace, with_namespace};

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn the_api_server_accepts_and_refuses_what_the_tables_say() -> Result<()> {
    with_namespace("validation", async |ns| {
        for case in cases::all() {
            check(ns, &case).await.with_context(|| case.name.clone())?;
        }
        Ok(())
    })
    .await
}

async fn check(ns: &Namespace, case: &Case) -> Result<()> {
    let object = case.object.to_string();
    if let Some(old) = &case.old {
        kubectl(ns, &["apply"], &old.to_string()).await?;
    }
    let answer =
        kubectl(ns, &["apply", "--dry-run=server"], &object).await.map_err(|error| format!("{error:#}"));
    if let Some(old) = &case.old {
        kubectl(ns, &["delete", "--wait=false"], &old.to_string()).await?;
    }
    match (&case.refused, answer) {
        (None, Ok(_)) => {}
        (None, Err(said)) => bail!("refused: {said}"),
        (Some(words), Ok(_)) => bail!("accepted, where {words:?} was to be said"),
        (Some(words), Err(said)) => ensure!(said.contains(words), "{words:?} is not in: {said}"),
    }
    Ok(())
}

async fn kubectl(ns: &Namespace, verb: &[&str], manifest: &str) -> Result<String> {
    let arguments = ["--namespace", &ns.name].into_iter().chain(verb.iter().copied());
    ns.environment.kubectl_with_input(arguments, manifest).await
}
