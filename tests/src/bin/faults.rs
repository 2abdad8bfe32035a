//! Plays every case of the fault suite again and again on the local cluster, and writes what clients saw.

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use evenkeel_tests::cluster::alone;
use evenkeel_tests::environment::repository;
use evenkeel_tests::faults::cases::{CASES, Case};
use evenkeel_tests::faults::run::{judge, run};
use evenkeel_tests::faults::stage::{Extent, Stage};
use evenkeel_tests::faults::table::{HEAD, line};

/// Breaks and changes things under load, and counts what fails.
#[derive(Parser)]
struct Args {
    /// How often each case is played.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Shorter outages and smaller floods.
    #[arg(long)]
    brief: bool,
    /// Only cases whose name contains this.
    #[arg(default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&args.only)).collect();
    if cases.is_empty() || args.runs == 0 {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        bail!("nothing to play; the cases are {}", names.join(", "));
    }
    alone("faults", async |ns| {
        let stage = Stage::set(ns, if args.brief { Extent::BRIEF } else { Extent::FULL }).await?;
        let (mut table, mut broken) = (HEAD.to_owned(), Vec::new());
        for case in cases {
            let mut runs = Vec::new();
            for number in 1..=args.runs {
                let run = run(case, &stage).await.with_context(|| format!("{}, run {number}", case.name))?;
                println!(
                    "{} {number}/{}: {} requests, {} failed {:?}",
                    case.name,
                    args.runs,
                    run.requests,
                    run.failed(),
                    run.failures
                );
                broken.extend(judge(case, &run).err());
                runs.push(run);
            }
            println!("{}", line(case.name, &runs));
            table = format!("{table}\n{}", line(case.name, &runs));
        }
        let path = repository().join("target/faults.md");
        std::fs::write(&path, format!("{table}\n")).context("write target/faults.md")?;
        println!("\n{table}\n\nwritten to target/faults.md");
        match broken.first() {
            None => Ok(()),
            Some(first) => bail!("{} runs did not keep their promise; the first: {first:#}", broken.len()),
        }
    })
    .await
}
