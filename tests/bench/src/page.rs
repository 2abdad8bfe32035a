//! The page that is written: goals first, then every table, then how it was measured.

use std::fmt::Write as _;
use std::process::Command;

use crate::contenders::SETTINGS;
use crate::figures::{Finding, Goal, Table, digits};
use crate::run::Rounds;

/// What explains the figures, written by people.
const NOTES: &str = include_str!("../notes.md");
const PINGORA: &str = include_str!("bin/bare-pingora.rs");

/// A row of the page.
#[derive(Debug)]
pub struct Section {
    /// Its title.
    pub title: String,
    /// What it found.
    pub finding: Finding,
}

/// Under which conditions.
#[derive(Debug)]
pub struct Conditions {
    /// Name and what it is.
    pub lines: Vec<(&'static str, String)>,
    /// How thoroughly.
    pub rounds: Rounds,
}

impl Conditions {
    /// Those of this machine.
    pub fn look(rounds: Rounds) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&read("/proc/cpuinfo"), "model name");
        let cores = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let cores = cores.filter(|entry| is_core(&entry.file_name().to_string_lossy())).count();
        let lines = vec![
            ("Processor", format!("{cpu}, {cores} cores")),
            ("Kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("Nginx", version("nginx", &["-v"])),
            ("HAProxy", version("haproxy", &["-v"])),
            ("wrk", version("wrk", &["-v"])),
            ("h2load", version("h2load", &["--version"])),
            ("Pingora", pinned(include_str!("../../../Cargo.toml"), "pingora")),
            ("Traefik", pinned(include_str!("../traefik/go.mod"), "github.com/traefik/traefik/v3")),
        ];
        Self { lines, rounds }
    }
}

fn is_core(name: &str) -> bool {
    name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// The version behind a dependency's name, in a list of them.
fn pinned(list: &str, name: &str) -> String {
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
    let version =
        line.split(['"', ' ']).find(|word| word.trim_start_matches('v').starts_with(char::is_numeric));
    version.unwrap_or_default().to_owned()
}

/// The first line that a program says of itself, whichever way it says it.
fn version(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return "missing".into() };
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// Goals as a table.
pub fn goals(goals: &[&Goal]) -> Table {
    let mut table = Table::new(["Goal", " at most", " measured", "reached"]);
    for goal in goals {
        let unit = goal.unit;
        table.line([
            goal.what.clone(),
            format!("{}{unit}", digits(goal.bar)),
            format!("{}{unit}", digits(goal.measured)),
            if goal.is_met() { "yes".into() } else { "**no**".into() },
        ]);
    }
    table
}

/// The whole page.
pub fn page(sections: &[Section], conditions: &Conditions) -> String {
    let all: Vec<&Goal> = sections.iter().flat_map(|section| &section.finding.goals).collect();
    let Rounds { count, seconds } = conditions.rounds;
    let mut page = format!(
        "# What the proxy costs\n\n\
         Written by `make bench`, which measures Evenkeel's proxy and others side by side in one run. The figure is the \
         processor time of the proxy's processes for a unit of work, kernel included: throughput would be the load \
         generator's as well. Each contender has one worker on a core of its own; load and targets have the others. In \
         each of {count} rounds every contender is loaded for {seconds} s, one after the other, and ratios are made within a \
         round. Evenkeel serves a snapshot file, with metrics and health checks on.\n\n\
         ## Goals\n\n{}",
        goals(&all)
    );
    let _ = write!(page, "\n{NOTES}");
    for Section { title, finding } in sections {
        let _ = write!(page, "\n## {title}\n\n{}", finding.table);
    }
    let _ = write!(page, "\n## Conditions\n\n| | |\n|---|---|\n");
    for (name, value) in &conditions.lines {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    page + REPEAT + &settings()
}

const REPEAT: &str = "\n## To repeat it\n\n\
    ```sh\n\
    make bench                    # everything, about a quarter of an hour after compiling; writes this page\n\
    make bench ONLY=connect       # rows whose name contains this; prints and writes nothing\n\
    make bench ROUNDS=10\n\
    ```\n\n\
    It needs two cores at least, and nothing else that keeps them busy. What it needs is installed from Debian's packages; \
    Traefik takes part where `make bench-traefik` has compiled it.\n";

fn settings() -> String {
    let mut text = String::from("\n## Settings\n\nAll of them are in `tests/bench/settings`.\n");
    for (name, content) in SETTINGS.iter().copied().chain([("bare-pingora.rs", PINGORA)]) {
        let kind = name.rsplit('.').next().unwrap_or_default();
        let kind = match kind {
            "conf" => "nginx",
            "cfg" => "haproxy",
            "rs" => "rust",
            other => other,
        };
        let _ = write!(
            text,
            "\n<details><summary><code>{name}</code></summary>\n\n```{kind}\n{content}```\n\n</details>\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_seen() {
        let goal = |measured| Goal { what: "Latency".into(), bar: 1.0, measured, unit: " ms" };
        let table = goals(&[&goal(0.5), &goal(1.5)]);
        assert_eq!(table.lines[0], ["Latency", "1.00 ms", "0.50 ms", "yes"]);
        assert_eq!(table.lines[1], ["Latency", "1.00 ms", "1.50 ms", "**no**"]);
    }

    #[test]
    fn the_page_has_goals_tables_conditions_and_settings() {
        let mut table = Table::new(["Contender", " µs"]);
        table.line(["Nginx".to_owned(), "18.0".to_owned()]);
        let goal = Goal { what: "Small answers".into(), bar: 0.95, measured: 0.9, unit: "" };
        let section = Section { title: "Small".into(), finding: Finding { table, goals: vec![goal] } };
        let conditions =
            Conditions { lines: vec![("Kernel", "6.18".into())], rounds: Rounds { count: 5, seconds: 2 } };
        let page = page(&[section], &conditions);
        for part in [
            "| Small answers | 0.95 | 0.90 | yes |",
            "## Small\n\n| Contender | µs |",
            "| Kernel | 6.18 |",
            "keepalive 256;",
            "in each of 5 rounds",
        ] {
            assert!(page.to_lowercase().contains(&part.to_lowercase()), "{part}\n{page}");
        }
    }

    #[test]
    fn cores_are_told_from_other_things_of_that_name() {
        assert!(is_core("cpu0") && is_core("cpu12"));
        assert!(!is_core("cpufreq") && !is_core("cpu"));
        assert_eq!(pinned("a = 1\npingora = { version = \"0.9.1\", default }\n", "pingora"), "0.9.1");
        assert_eq!(pinned("require (\n\tx.com/a/v3 v3.6.12 // indirect\n)\n", "x.com/a/v3"), "v3.6.12");
        assert_eq!(field("vendor_id\t: AMD\nmodel name\t: AMD EPYC\n", "model name"), "AMD EPYC");
    }
}
