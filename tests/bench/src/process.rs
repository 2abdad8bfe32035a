//! Processes that are measured: on cores of their own, with what they use read from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long a process may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which cores are whose.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// All, numbered from 0.
    pub count: usize,
}

impl Cores {
    /// Those of this machine; this process keeps off that of the contenders.
    ///
    /// # Errors
    /// There are not two.
    pub fn divide() -> Result<Self> {
        let cores = Self { count: std::thread::available_parallelism()?.get() };
        ensure!(cores.count >= 2, "a contender needs a core of its own: two are the least");
        let own = std::process::id().to_string();
        let moved = Command::new("taskset").args(["-acp", &cores.of_load(), &own]).output();
        let moved = moved.context("taskset")?;
        ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr));
        Ok(cores)
    }

    /// For load and targets: all but the last.
    pub fn of_load(self) -> String {
        format!("0-{}", self.count.saturating_sub(2))
    }

    /// For a contender with so many workers: the last.
    pub fn of_contender(self, workers: usize) -> String {
        format!("{}-{}", self.count.saturating_sub(workers), self.count.saturating_sub(1))
    }
}

/// A process and those that it started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it writes its errors.
    log: PathBuf,
}

impl Process {
    /// Starts a program on these cores, in this directory, and waits until this port is open.
    ///
    /// # Errors
    /// It cannot be started, or does not open the port.
    pub fn start(command: Command, cores: &str, directory: &Path, port: u16) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_os_string();
        let log = directory.join(&name).with_extension(format!("{port}.log"));
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", cores]).arg(command.get_program()).args(command.get_args());
        pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        pinned.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
        let child = pinned.stderr(fs::File::create(&log)?).spawn();
        let child = child.with_context(|| format!("start {}", name.display()))?;
        let mut process = Self { child, log };
        process.until_open(port)?;
        Ok(process)
    }

    fn until_open(&mut self, port: u16) -> Result<()> {
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("port {port} is not open; {}", fs::read_to_string(&self.log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for pid in self.pids()? {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end while one looks.
                let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                nanoseconds += first_number(&text).context("schedstat")?;
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Memory that is there, in bytes, without the kernel's buffers.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.pids()? {
            bytes += resident(&fs::read_to_string(format!("/proc/{pid}/status"))?).context("VmRSS")?;
        }
        Ok(bytes)
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        Ok(std::iter::once(pid).chain(children).collect())
    }
}

impl Drop for Process {
    /// Politely, so that it takes its children with it.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(first_number(line)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_from_proc() {
        assert_eq!(first_number("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(first_number("\n"), None);
        let status = "Name:\tnginx\nVmHWM:\t 900 kB\nVmRSS:\t    812 kB\nThreads:\t1\n";
        assert_eq!(resident(status), Some(812 * 1024));
        assert_eq!(resident("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn contenders_have_the_last_cores_and_load_the_others() {
        for (count, of_load, of_one, of_two) in [(2, "0-0", "1-1", "0-1"), (8, "0-6", "7-7", "6-7")] {
            let cores = Cores { count };
            let divided = (cores.of_load(), cores.of_contender(1), cores.of_contender(2));
            assert_eq!(divided, (of_load.into(), of_one.into(), of_two.into()));
        }
    }
}
