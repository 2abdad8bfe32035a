//! Compares what is built with files in `operator/golden/`. Any difference in a pod template is a rollout for every
//! user who upgrades: with `UPDATE_GOLDEN=1` the files are written anew, and the diff is there to be read.

use std::path::Path;

use serde_json::Value;

/// Compares `built` with the golden file of that name.
pub fn check(name: &str, built: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.yaml"));
    let built = serde_saphyr::to_string(built).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &built).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        built,
        golden,
        "{} differs; if that is meant, run the tests with UPDATE_GOLDEN=1",
        path.display()
    );
}
