//! Plays every case of the fault suite again and again on the local cluster, and writes what clients saw.

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use evenkeel_tests::environment::repository;
use evenkeel_tests::faults::cases::{CASES, Case};
use evenkeel_tests::faults::play::Play;
use evenkeel_tests::faults::stage::Extent;

/// Breaks and changes things under load, and counts what fails.
#[derive(Parser)]
struct Args {
    /// How often each case is played.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// How many cases are played at once, each under its own load, if they do not need the cluster to themselves.
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// Shorter outages and smaller floods.
    #[arg(long)]
    brief: bool,
    /// Only cases of these names, or whose name contains one that is nobody's name.
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |case: &Case| args.only.is_empty() || args.only.iter().any(|name| means(name, case));
    let cases: Vec<&Case> = CASES.iter().filter(|case| wanted(case)).collect();
    if cases.is_empty() || args.runs == 0 || args.lanes == 0 {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        bail!("nothing to play; the cases are {}", names.join(", "));
    }
    let play = Play::new(&cases, args.runs, if args.brief { Extent::BRIEF } else { Extent::FULL });
    let played = play.all(args.lanes).await;
    let table = play.table();
    std::fs::write(repository().join("target/faults.md"), format!("{table}\n"))
        .context("write target/faults.md")?;
    println!("\n{table}\n\nwritten to target/faults.md");
    played?;
    match play.broken_promises().as_slice() {
        [] => Ok(()),
        [first, ..] => {
            bail!("{} runs did not keep their promise; the first: {first:#}", play.broken_promises().len())
        }
    }
}

fn means(name: &str, case: &Case) -> bool {
    case.name == name || (case.name.contains(name) && CASES.iter().all(|case| case.name != name))
}
