//! Load, by tools that others know: wrk, and h2load where HTTP/2 is asked for.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::echo;

/// How a row loads its contenders.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// HTTP/1.1 by wrk.
    Wrk {
        /// Connections at a time.
        connections: u32,
        /// What is asked for.
        path: &'static str,
        /// What else wrk is told.
        more: &'static [&'static str],
    },
    /// HTTP/2 without TLS by h2load: 8 connections with 8 streams each.
    H2c,
    /// Small messages on 64 upgraded connections, each after the echo of the one before it.
    WebSocket,
    /// 64 KiB at a time on 8 connections, echoed.
    Tcp,
}

/// What a load comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Requests or messages that were answered.
    pub requests: u64,
    /// Those that were not, or not as they should be.
    pub failed: u64,
    /// Bytes of answers.
    pub bytes: f64,
}

impl Load {
    /// Loads what listens on this port for so many seconds. `scripts` is where wrk's are.
    ///
    /// # Errors
    /// The tool is missing or says something unheard of.
    pub async fn run(self, port: u16, seconds: u32, scripts: &Path) -> Result<Done> {
        match self {
            Self::Wrk { connections, path, more } => {
                let mut wrk = Command::new("wrk");
                wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]).args(more);
                let text = said(wrk.arg(format!("http://127.0.0.1:{port}{path}")), scripts).await?;
                wrk_done(&text).with_context(|| format!("wrk says {text}"))
            }
            Self::H2c => {
                let mut h2load = Command::new("h2load");
                h2load.args(["-t1", "-c8", "-m8", &format!("-D{seconds}")]);
                let text = said(h2load.arg(format!("http://127.0.0.1:{port}/")), scripts).await?;
                h2load_done(&text).with_context(|| format!("h2load says {text}"))
            }
            Self::WebSocket => echo::messages(port, Duration::from_secs(seconds.into())).await,
            Self::Tcp => echo::bytes(port, Duration::from_secs(seconds.into())).await,
        }
    }
}

async fn said(command: &mut Command, directory: &Path) -> Result<String> {
    let tool = command.as_std().get_program().to_os_string();
    let output = command.current_dir(directory).output().await;
    let output = output.with_context(|| format!("start {}", tool.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {said}{}", tool.display(), String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// The number that is directly before this.
fn before(text: &str, marker: &str) -> Option<u64> {
    let front = text.get(..text.find(marker)?)?;
    front.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// From `3.28MB`, as wrk counts: 1024 KB are an MB.
fn size(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let power = ["B", "KB", "MB", "GB", "TB"].iter().position(|known| *known == unit)?;
    Some(number.parse::<f64>().ok()? * 1024_f64.powi(power as i32))
}

fn wrk_done(text: &str) -> Option<Done> {
    let requests = before(text, " requests in ")?;
    let bytes = size(text.lines().find_map(|line| line.strip_suffix(" read"))?.rsplit(' ').next()?)?;
    let after = |marker: &str| text.lines().find_map(|line| line.trim().strip_prefix(marker));
    let refused = after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.trim().parse().ok())?;
    let broken = after("Socket errors:").unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let broken: u64 = broken.filter_map(|count| count.parse::<u64>().ok()).sum();
    Some(Done { requests: requests - refused, failed: refused + broken, bytes })
}

fn h2load_done(text: &str) -> Option<Done> {
    let requests = before(text, " succeeded,")?;
    let failed = before(text, " failed,")? + before(text, " timeout")?;
    Some(Done { requests, failed, bytes: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 1s test @ http://127.0.0.1:22000/\n  1 threads and 64 connections\n  \
            Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     4.61ms    7.24ms  55.62ms   93.96%\n  \
            19648 requests in 1.01s, 3.25MB read\nRequests/sec:  19460.81\nTransfer/sec:      3.25MB\n";
        let done = wrk_done(text).unwrap();
        assert_eq!((done.requests, done.failed), (19_648, 0));
        assert!((done.bytes - 3.25 * 1_048_576.0).abs() < 1.0);
    }

    #[test]
    fn what_wrk_says_of_failures_is_counted() {
        let text = "  700 requests in 2.00s, 12.00KB read\n  Socket errors: connect 1, read 20, write 0, timeout 300\n  \
            Non-2xx or 3xx responses: 100\n";
        assert_eq!(wrk_done(text), Some(Done { requests: 600, failed: 421, bytes: 12_288.0 }));
        assert_eq!(wrk_done("unable to connect to 127.0.0.1:22000 Connection refused\n"), None);
    }

    #[test]
    fn what_h2load_says_is_understood() {
        let text = "finished in 1.00s, 19622.00 req/s, 1.67MB/s\n\
            requests: 19622 total, 19686 started, 19622 done, 19620 succeeded, 2 failed, 2 errored, 3 timeout\n";
        assert_eq!(h2load_done(text), Some(Done { requests: 19_620, failed: 5, bytes: 0.0 }));
    }
}
