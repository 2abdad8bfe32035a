//! What proxies cost, side by side on one machine: prints tables and writes `docs/performance.md`.
//!
//! ```text
//! wrk, h2load, own loads ─► contender (a core of its own) ─► targets (an Nginx) or an echo
//! every row, every round: each contender in turn, so that whatever else happens on the machine meets all of them
//! ```
//!
//! The figure is the processor time of the contender's processes for a unit of work, kernel included, read from
//! `/proc/PID/task/*/schedstat`; it is compared within a round. Throughput would be the load generator's as well.

mod apply;
mod contenders;
mod echo;
mod figures;
mod floods;
mod latency;
mod load;
mod memory;
mod pace;
mod page;
mod process;
mod rows;
mod run;
mod snapshot;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::contenders::Programs;
use crate::figures::Finding;
use crate::page::{Conditions, Section, goals, page};
use crate::process::Cores;
use crate::rows::ROWS;
use crate::run::{Rounds, Run};

/// What is measured besides the rows.
const WHOLES: [&str; 4] = ["latency", "memory", "apply", "floods"];

/// Measures proxies side by side.
#[derive(Parser)]
struct Args {
    /// Evenkeel's proxy.
    #[arg(long)]
    evenkeel: PathBuf,
    /// Pingora's own.
    #[arg(long)]
    pingora: PathBuf,
    /// Traefik; without it, it takes no part.
    #[arg(long)]
    traefik: Option<PathBuf>,
    /// How often each contender is measured in a row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how many seconds each time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only rows whose name contains this; nothing is written then.
    #[arg(default_value = "")]
    only: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // before there are threads: they inherit the cores
    let cores = Cores::divide()?;
    tokio::runtime::Runtime::new()?.block_on(measure(args, cores))
}

async fn measure(args: Args, cores: Cores) -> Result<()> {
    let rounds = Rounds { count: args.rounds, seconds: args.seconds };
    let conditions = Conditions::look(rounds);
    let existing = |path: PathBuf| path.canonicalize().with_context(|| path.display().to_string());
    let programs = Programs {
        evenkeel: existing(args.evenkeel)?,
        pingora: existing(args.pingora)?,
        traefik: args.traefik.map(existing).transpose()?,
    };
    let mut run = Run::begin(programs, cores, rounds).await?;
    let wanted = |name: &str| name.contains(&args.only);
    let mut sections = Vec::new();
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        say(&mut sections, row.title.to_owned(), run.row(row).await?);
    }
    for name in WHOLES.into_iter().filter(|name| wanted(name)) {
        for (title, finding) in whole(name, &mut run).await? {
            say(&mut sections, title, finding);
        }
    }
    if sections.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).chain(WHOLES).collect();
        bail!("there is no such row; the rows are {}", names.join(", "));
    }
    let all: Vec<_> = sections.iter().flat_map(|section| &section.finding.goals).collect();
    println!("\n{}", goals(&all));
    if args.only.is_empty() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md"));
        std::fs::write(&path, page(&sections, &conditions)).context("docs/performance.md")?;
        println!("written to docs/performance.md");
    }
    Ok(())
}

/// Measures what is no comparison of the cost of one load.
async fn whole(name: &str, run: &mut Run) -> Result<Vec<(String, Finding)>> {
    let titled = |title: &str, finding| vec![(title.to_owned(), finding)];
    Ok(match name {
        "latency" => {
            let title = |rate| format!("Added latency at {rate:.0} requests a second");
            let [(busy, at_busy), (ease, at_ease)] = latency::measure(run).await?;
            vec![(title(busy) + ", half of what Nginx does at most", at_busy), (title(ease), at_ease)]
        }
        "memory" => titled("Memory", memory::measure(run).await?),
        "apply" => titled("A large snapshot while serving", apply::measure(run).await?),
        _ => titled("Others during floods", floods::measure(run).await?),
    })
}

fn say(sections: &mut Vec<Section>, title: String, finding: Finding) {
    println!("\n{title}\n\n{}", finding.table);
    sections.push(Section { title, finding });
}
