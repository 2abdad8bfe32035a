//! Writes every file that is generated from the types: `cargo run -p evenkeel-crds --bin crdgen` in the repository's root.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (path, content) in evenkeel_crds::generate::files()? {
        if let Some(folder) = Path::new(&path).parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, content)?;
        println!("{path}");
    }
    Ok(())
}
