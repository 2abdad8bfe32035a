//! What connections hold.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::contenders::Contender;
use crate::figures::{Finding, Goal, Table, digits};
use crate::run::Run;

/// Connections that wait for their next request.
const IDLE: u32 = 10_000;
/// Connections that come and go.
const PASSING: u32 = 50_000;
/// Those that are opened at a time.
const AT_ONCE: usize = 64;
/// Memory that an idle connection may hold, in KiB.
const BAR: f64 = 4.0;
/// What is still there after all have gone, in relation to what was there with the idle ones.
const FLAT: f64 = 1.0;
/// From the last connection to a look.
const SETTLE: Duration = Duration::from_secs(2);

/// Resident memory at rest, with idle connections, and after many came and went.
///
/// # Errors
/// A contender cannot be started, or does not answer.
pub async fn measure(run: &mut Run) -> Result<Finding> {
    let mut finding = Finding {
        table: Table::new([
            "Resident memory, MiB",
            " at rest",
            " with 10,000 idle connections",
            " KiB for each",
            " after 50,000 more came and went",
        ]),
        goals: Vec::new(),
    };
    for contender in
        [Contender::Nginx, Contender::Evenkeel, Contender::Haproxy, Contender::Traefik, Contender::Pingora]
    {
        if !run.has(contender) {
            continue;
        }
        run.end(contender);
        let [rest, idle, after] = stages(run, contender).await?;
        let each = (idle - rest) / f64::from(IDLE) * 1024.0;
        finding.table.line([
            contender.name().to_owned(),
            digits(rest),
            digits(idle),
            digits(each),
            digits(after),
        ]);
        if contender == Contender::Evenkeel {
            let what = "Memory of an idle connection".to_owned();
            finding.goals.push(Goal { what, bar: BAR, measured: each, unit: " KiB" });
            let what =
                "Memory after 50,000 connections, in relation to that with 10,000 idle ones".to_owned();
            finding.goals.push(Goal { what, bar: FLAT, measured: after / idle, unit: "" });
        }
    }
    Ok(finding)
}

/// MiB at rest, with idle connections, and after all have gone.
async fn stages(run: &mut Run, contender: Contender) -> Result<[f64; 3]> {
    let port = contender.http();
    let process = run.process(contender).await?;
    let mebibytes = || anyhow::Ok(process.resident()? as f64 / 1024_f64.powi(2));
    sleep(SETTLE).await;
    let rest = mebibytes()?;
    let idle: Vec<TcpStream> =
        stream::iter(0..IDLE).map(|_| idle_connection(port)).buffer_unordered(AT_ONCE).try_collect().await?;
    sleep(SETTLE).await;
    let with_idle = mebibytes()?;
    drop(idle);
    let passing = stream::iter(0..PASSING).map(|_| get(port, "/")).buffer_unordered(AT_ONCE);
    passing.try_for_each(|_| async { Ok(()) }).await?;
    sleep(SETTLE).await;
    Ok([rest, with_idle, mebibytes()?])
}

/// A connection on which a request was answered.
async fn idle_connection(port: u16) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello, world\n") {
        let read = timeout(Duration::from_secs(10), socket.read_buf(&mut answer)).await??;
        ensure!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
    }
    Ok(socket)
}

/// Asks on a connection of its own, and returns everything that comes back.
///
/// # Errors
/// There is nobody, or no answer in time.
pub async fn get(port: u16, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(Duration::from_secs(10), socket.read_to_string(&mut answer)).await??;
    ensure!(answer.starts_with("HTTP/1.1 "), "answered {answer}");
    Ok(answer)
}
