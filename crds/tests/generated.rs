//! What is generated from the types and kept in the repository.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use std::path::Path;

/// `kubectl apply` without `--server-side` keeps the whole object in an annotation, of which this is the limit.
const LARGEST_DEFINITION: usize = 256 * 1024;

#[test]
fn generated_files_are_as_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace");
    for (path, wanted) in evenkeel_crds::generate::files().unwrap() {
        let found = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert!(found == wanted, "{path} is not what the types say: run `make crds`");
    }
}

#[test]
fn every_definition_is_small_enough_for_kubectl_apply() {
    for definition in evenkeel_crds::definition::all().unwrap() {
        let size = definition.to_string().len();
        assert!(size < LARGEST_DEFINITION, "{size} bytes: {}", definition["metadata"]["name"]);
    }
}

#[test]
fn kubectl_knows_every_format() {
    for definition in evenkeel_crds::definition::all().unwrap() {
        let text = definition.to_string();
        let formats = text
            .match_indices("\"format\":\"")
            .map(|(at, start)| text[at + start.len()..].split('"').next().unwrap());
        for format in formats {
            assert!(["int32", "int64", "cidr", "date-time"].contains(&format), "{format}");
        }
    }
}
