//! A run: what is running, and each row in turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpListener;

use crate::contenders::{ADMIN, Contender, Programs, SETTINGS, nginx};
use crate::figures::{Finding, Sample};
use crate::load::Load;
use crate::process::{Cores, Process};
use crate::rows::{Row, Samples};
use crate::{echo, memory, pace};

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How often each contender is measured in a row.
    pub count: u32,
    /// For how long each time.
    pub seconds: u32,
}

/// What is running.
#[derive(Debug)]
pub struct Run {
    /// Where the programs are.
    pub programs: Programs,
    /// Whose cores are whose.
    pub cores: Cores,
    /// How thoroughly it measures.
    pub rounds: Rounds,
    running: BTreeMap<Contender, Process>,
    _targets: Process,
    directory: tempfile::TempDir,
}

impl Run {
    /// Starts the targets and writes the settings.
    ///
    /// # Errors
    /// A program is missing.
    pub async fn begin(programs: Programs, cores: Cores, rounds: Rounds) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for (name, text) in SETTINGS {
            std::fs::write(directory.path().join(name), text)?;
        }
        std::fs::create_dir(directory.path().join("files"))?;
        for (name, kib) in [("64k", 64), ("10m", 10 * 1024)] {
            std::fs::write(directory.path().join("files").join(name), "0123456789abcdef".repeat(64 * kib))?;
        }
        let echo = TcpListener::bind(("127.0.0.1", echo::PORT)).await.context("the echo's port")?;
        tokio::spawn(echo::serve(echo));
        let command = nginx("targets.conf", directory.path());
        let targets = Process::start(command, &cores.of_load(), directory.path(), 20001)?;
        Ok(Self { programs, cores, rounds, running: BTreeMap::new(), _targets: targets, directory })
    }

    /// Where the settings are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file beside the settings.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Whether a contender can take part: Traefik may not have been compiled.
    pub fn has(&self, contender: Contender) -> bool {
        contender != Contender::Traefik || self.programs.traefik.is_some()
    }

    /// The process of a contender, which is started if need be.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn process(&mut self, contender: Contender) -> Result<&Process> {
        if !self.running.contains_key(&contender) {
            let process = contender.start(&self.programs, self.cores, self.directory.path())?;
            self.running.insert(contender, process);
            until_ready(contender).await?;
        }
        self.running.get(&contender).context("it was just started")
    }

    /// Ends a contender; the next use starts it anew.
    pub fn end(&mut self, contender: Contender) {
        self.running.remove(&contender);
    }

    /// Ends those that only few rows need.
    pub fn end_special(&mut self) {
        self.end(Contender::EvenkeelRules);
        self.end(Contender::EvenkeelTwo);
    }

    /// Measures a row: a round to warm up, then those that count. A peer that cannot be started or loaded is left out.
    ///
    /// # Errors
    /// Evenkeel cannot be started or loaded.
    pub async fn row(&mut self, row: &Row) -> Result<Finding> {
        let mut samples: Vec<Samples> = Vec::new();
        for contender in row.contenders.iter().filter(|contender| self.has(**contender)) {
            samples.push((*contender, Vec::new()));
        }
        for round in 0..=self.rounds.count {
            let seconds = if round == 0 { 1 } else { self.rounds.seconds };
            let mut able = Vec::new();
            for (contender, mut samples) in samples {
                match self.sample(row, contender, seconds).await {
                    Ok(_) if round == 0 => able.push((contender, samples)),
                    Ok(sample) => {
                        samples.push(sample);
                        able.push((contender, samples));
                    }
                    Err(error) if contender.is_evenkeel() => return Err(error.context(row.name)),
                    Err(error) => eprintln!("{} is left out of {}: {error:#}", contender.name(), row.name),
                }
            }
            samples = able;
        }
        self.end_special();
        Ok(row.finding(&samples, self.cores.count))
    }

    async fn sample(&mut self, row: &Row, contender: Contender, seconds: u32) -> Result<Sample> {
        let port = match row.load {
            Load::H2c => contender.h2c(),
            Load::Tcp => contender.tcp(),
            _ => contender.http(),
        };
        let scripts = self.directory().to_owned();
        let process = self.process(contender).await?;
        let (before, began) = (process.cpu()?, Instant::now());
        let done = row.load.run(port, seconds, &scripts).await?;
        let (cpu, elapsed) = (process.cpu()?.saturating_sub(before), began.elapsed());
        let work = row.unit.of(done);
        ensure!(work > 0.0, "nothing was answered");
        Ok(Sample { work, failed: done.failed, cpu, elapsed })
    }

    /// Requests at a constant rate; blocks nothing.
    ///
    /// # Errors
    /// A request fails.
    pub async fn paced(port: u16, pace: pace::Pace) -> Result<pace::Latencies> {
        tokio::task::spawn_blocking(move || pace::run(port, pace)).await?
    }
}

/// Waits until a contender answers and, where it says so, knows its targets.
async fn until_ready(contender: Contender) -> Result<()> {
    let (port, path) =
        if contender.is_evenkeel() { (contender.http() + ADMIN, "/readyz") } else { (contender.http(), "/") };
    let began = Instant::now();
    loop {
        let answer = memory::get(port, path).await;
        if answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "{} is not ready: {answer:?}", contender.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
