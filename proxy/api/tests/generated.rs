//! The committed code is what the protocol's definition generates.
//!
//! After a change of `push.proto`: `EVENKEEL_REGENERATE=1 cargo test -p evenkeel-proxy-api --test generated`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

#[test]
fn the_committed_code_is_what_push_proto_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated/evenkeel.push.v1.rs");
    let fresh = generate(root);
    if std::env::var_os("EVENKEEL_REGENERATE").is_some() {
        std::fs::write(&committed, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        committed == fresh,
        "src/generated is stale: run EVENKEEL_REGENERATE=1 cargo test -p evenkeel-proxy-api --test generated"
    );
}

fn generate(root: &Path) -> String {
    let descriptors = protox::compile(["push.proto"], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    // Our method is called Connect, and so is what `transport` generates.
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();
    std::fs::read_to_string(out.path().join("evenkeel.push.v1.rs")).unwrap()
}
