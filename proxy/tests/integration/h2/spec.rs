//! h2spec: what RFC 9113 and 7541 demand of a server, asked by somebody else.

use std::collections::BTreeSet;

use tokio::process::Command;

use crate::harness::{FORKS, PATIENCE, forwarding, free_port, serve, target};
use crate::target::Target;

/// What it finds wrong, and why that is meant.
const MEANT: &[(&str, &str)] = &[(
    "2: Sends invalid connection preface",
    "this port speaks HTTP/1.1 as well, by which the connection is told that it is wrong before it ends",
)];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`make h2spec` compiles the program"]
async fn http2_is_spoken_as_its_specification_demands() {
    let program = std::env::var_os("EVENKEEL_H2SPEC").expect("EVENKEEL_H2SPEC names the program");
    let alive = Target::saying("alive").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    let forking = FORKS.lock().await;
    let playing = Command::new(program)
        .args(["--strict", "--host", "127.0.0.1", "--timeout", "5", "--port", &port.to_string()])
        .kill_on_drop(true)
        .output();
    let played = tokio::time::timeout(3 * PATIENCE, playing).await.expect("in time").expect("it runs");
    drop(forking);
    let said = String::from_utf8_lossy(&played.stdout);
    let found: BTreeSet<_> =
        said.lines().filter_map(|line| line.split_once("× ")).map(|(_, name)| name).collect();
    let meant: BTreeSet<_> = MEANT.iter().map(|(name, _)| *name).collect();
    assert!(said.contains(" tests, ") && found == meant, "{said}");
}
