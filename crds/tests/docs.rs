//! The documentation speaks of what there is: links lead somewhere, and every reason of a condition is explained.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `#` and a heading's text become in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
        .collect::<String>()
        .replace(' ', "-")
}

/// Those outside of code, where regular expressions look like links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split('`').step_by(2);
    prose
        .flat_map(|prose| prose.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://"))
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let pages = ["README.md", "CONTRIBUTING.md", "charts/evenkeel/README.md"].map(PathBuf::from);
    let docs = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|file| Path::new("docs").join(file.unwrap().file_name()));
    for page in pages.into_iter().chain(docs).filter(|page| page.extension().is_some_and(|kind| kind == "md"))
    {
        for link in links(&read(page.to_str().unwrap())) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(root().join(&target).exists(), "{}: {link} leads nowhere", page.display());
            if !heading.is_empty() {
                let text = read(target.to_str().unwrap());
                let found = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{}: {link} leads to no heading", page.display());
            }
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let page = read("docs/operations.md");
    let code = read("operator/src/conditions.rs");
    let reasons = code.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split('"').nth(1));
    let errors = read("proxy/src/errors.rs");
    let errors = errors.lines().filter_map(|line| {
        line.trim().strip_prefix("Self::")?.split_once(" => \"").map(|(name, _)| name.to_owned())
    });
    let mut seen = 0;
    for word in reasons.map(str::to_owned).chain(errors).chain(findings()) {
        assert!(page.contains(&format!("`{word}`")), "docs/operations.md says nothing of {word}");
        seen += 1;
    }
    assert!(seen > 40, "only {seen} reasons were found: did the code move?");
}

/// The reasons that scaling gives: the first text after `Finding::yes(` or `Finding::no(`.
fn findings() -> Vec<String> {
    let paths = ["operator/src/scale.rs", "operator/src/scale", "operator/src/autoscaler"];
    let code: Vec<String> = paths.into_iter().flat_map(sources).collect();
    let after = |call| code.iter().flat_map(move |text| text.split(call).skip(1));
    let calls = after("Finding::yes(").chain(after("Finding::no("));
    calls
        .filter_map(|call| Some(call.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned()))
        .collect()
}

/// The Rust files in a folder, or the one file.
fn sources(path: &str) -> Vec<String> {
    let at = root().join(path);
    if at.is_file() {
        return vec![read(path)];
    }
    let files = std::fs::read_dir(at).unwrap().map(|file| file.unwrap().path());
    let rust = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn every_metric_is_explained() {
    let page = read("docs/operations.md");
    let code = [
        "operator/src",
        "operator/src/ca",
        "operator/src/push",
        "operator/src/autoscaler",
        "operator/src/drain",
        "proxy/src",
    ]
    .into_iter()
    .flat_map(sources);
    let mut seen = 0;
    for text in code.filter(|text| text.contains("prometheus_client")) {
        for call in text.split(".register").skip(1).filter_map(|call| call.split_once('(')) {
            let Some(name) = call.1.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            assert!(
                page.contains(&format!("`{name}")),
                "docs/operations.md says nothing of the metric {name}"
            );
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} metrics were found: did the code move?");
}
