//! The program as it is shipped.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::{Answer, get};
use crate::harness::{FORKS, PATIENCE, forwarding, free_port, local, target};
use crate::target::Target;

pub struct Process {
    child: Child,
    directory: tempfile::TempDir,
    pub port: u16,
    admin: u16,
}

impl Process {
    /// Serves a snapshot and waits until it is ready.
    pub async fn start(snapshot: impl Fn(u16) -> String, more: &[&str]) -> Self {
        Self::start_with(snapshot, more, Stdio::inherit(), Stdio::inherit()).await
    }

    async fn start_with(snapshot: impl Fn(u16) -> String, more: &[&str], out: Stdio, log: Stdio) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let file = directory.path().join("snapshot.yaml");
        std::fs::write(&file, snapshot(port)).unwrap();
        let forking = FORKS.lock().await;
        let child = Command::new(env!("CARGO_BIN_EXE_evenkeel-proxy"))
            .arg("--snapshot")
            .arg(&file)
            .args(["--admin", &local(admin).to_string(), "--threads", "2"])
            .args(more)
            .current_dir(directory.path())
            .stdout(out)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        drop(forking);
        let process = Self { child, directory, port, admin };
        process.until("it is ready", "/readyz", |answer| answer.status == 200).await;
        process
    }

    async fn get(&self, path: &str) -> Answer {
        get(local(self.port), path).await
    }

    pub async fn until(&self, what: &str, admin_path: &str, holds: impl Fn(&Answer) -> bool) {
        let looking = async {
            loop {
                if TcpStream::connect(local(self.admin)).await.is_ok()
                    && holds(&get(local(self.admin), admin_path).await)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn signal(&self, signal: &str) {
        let _forking = FORKS.lock().await;
        let pid = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    async fn exit_code(&mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }
}

fn saying(text: &'static str) -> impl Fn(u16) -> String {
    move |port| {
        format!(
            "listeners: {{web: {{port: {port}, defaultAction: {{fixedResponse: {{statusCode: 200, contentType: text/plain, messageBody: {text}}}}}}}}}"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_snapshot_is_taken_over_and_a_broken_one_is_not() {
    let process = Process::start(saying("first"), &[]).await;
    assert_eq!(process.get("/").await.text(), "first");
    std::fs::write(process.file("snapshot.yaml"), "listeners: [this is no snapshot").unwrap();
    std::fs::write(process.file("snapshot.yaml"), saying("second")(process.port)).unwrap();
    let changed = async {
        while process.get("/").await.text() != "second" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the file is taken over");
    let shown = get(local(process.admin), "/snapshot").await;
    assert!(shown.text().contains(r#""messageBody":"second""#), "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_checks_fail_leaves_and_returns() {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let says = healthy.clone();
    let moody = Target::http(move |request| {
        let fine = request.uri().path() != "/healthz" || says.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            let status = if fine { 200 } else { 503 };
            http::Response::builder().status(status).body(http_body_util::Full::from("moody")).unwrap()
        }
    })
    .await;
    let steady = Target::saying("steady").await;
    let (moody_port, steady_port) = (moody.port, steady.port);
    let checked = move |port| {
        forwarding(port, &[target("moody", moody_port), target("steady", steady_port)])
            .replace("targets:", "healthCheck: {path: /healthz, interval: 1s, timeout: 1s}, targets:")
    };
    let process = Process::start(checked, &[]).await;
    let healthy_targets = |count: usize| {
        let line = format!(r#"evenkeel_proxy_targets{{target_group="api",state="healthy"}} {count}"#);
        move |answer: &Answer| answer.text().contains(&line)
    };
    process.until("both are healthy", "/metrics", healthy_targets(2)).await;
    healthy.store(false, std::sync::atomic::Ordering::SeqCst);
    process.until("one is not", "/metrics", healthy_targets(1)).await;
    for _ in 0..4 {
        assert_eq!(process.get("/").await.text(), "steady");
    }
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    process.until("it is back", "/metrics", healthy_targets(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_and_a_line_of_the_access_log() {
    let echo = Target::echo().await;
    let echo_port = echo.port;
    let mut process = Process::start(
        move |port| forwarding(port, &[target("t", echo_port)]),
        &["--access-log", "access.log", "--termination-wait", "0s"],
    )
    .await;
    process.get("/a?b=c").await;
    let counted = [
        r#"evenkeel_proxy_requests_total{listener="web",status="2xx"} 1"#,
        r#"evenkeel_proxy_request_duration_seconds_count{listener="web"} 1"#,
        r#"evenkeel_proxy_target_group_requests_total{target_group="api"} 1"#,
        r#"evenkeel_proxy_target_group_latency_seconds_count{target_group="api"} 1"#,
        r#"evenkeel_proxy_in_flight{listener="web"} 0"#,
    ];
    let all = |answer: &Answer| counted.iter().all(|line| answer.text().contains(line));
    process.until("it is counted", "/metrics", all).await;
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
    let log = std::fs::read_to_string(process.file("access.log")).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(log.trim()).unwrap_or_else(|error| panic!("{error}: {log}"));
    for (key, value) in [
        ("listener", "web"),
        ("protocol", "HTTP/1.1"),
        ("method", "GET"),
        ("path", "/a?b=c"),
        ("targetGroup", "api"),
        ("target", &local(echo_port).to_string()),
    ] {
        assert_eq!(line[key], value, "{key} in {log}");
    }
    assert_eq!((line["status"].as_u64(), line["attempts"].as_u64()), (Some(200), Some(1)), "{log}");
    assert!(line["sentBytes"].as_u64() > Some(0) && line["targetMs"].as_f64() > Some(0.0), "{log}");
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_log_lines_and_no_request() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let arguments = ["--access-log", "/dev/full", "--log-level", "trace", "--termination-wait", "0s"];
    let mut process =
        Process::start_with(saying("steady"), &arguments, Stdio::null(), Stdio::from(full)).await;
    for _ in 0..50 {
        assert_eq!(process.get("/").await.text(), "steady");
    }
    let lost = |answer: &Answer| {
        let value = answer
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("evenkeel_proxy_access_log_dropped_total ")?.parse().ok());
        value.is_some_and(|lost: u64| lost > 0)
    };
    process.until("lost lines are counted", "/metrics", lost).await;
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_nobody_reads_hold_up_neither_requests_nor_the_end() {
    let arguments = ["--access-log", "-", "--log-level", "trace", "--termination-wait", "0s"];
    let mut process = Process::start_with(saying("steady"), &arguments, Stdio::piped(), Stdio::piped()).await;
    // Many times what a pipe holds (64 KiB).
    let path = format!("/{}", "a".repeat(4000));
    for _ in 0..200 {
        assert_eq!(process.get(&path).await.text(), "steady");
    }
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_request_in_flight_finish_and_ends_with_it() {
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = go_on.clone();
    let slow = Target::tcp(move |mut socket| {
        let wait = wait.clone();
        async move {
            // A check says nothing.
            if socket.read(&mut [0; 4096]).await.is_ok_and(|read| read == 0) {
                return;
            }
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").await;
            wait.notified().await;
            let _ = socket.write_all(b"rest").await;
        }
    })
    .await;
    let slow_port = slow.port;
    let mut process = Process::start(
        move |port| {
            forwarding(port, &[target("t", slow_port)])
                .replace("2s", "60s")
                .replace("targets:", "healthCheck: {protocol: TCP}, targets:")
        },
        &["--termination-wait", "0s", "--drain-timeout", "60s"],
    )
    .await;
    let mut socket = TcpStream::connect(local(process.port)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"half") {
        assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
    }
    process.signal("TERM").await;
    let port = process.port;
    crate::harness::until("it accepts no more", || std::net::TcpStream::connect(local(port)).is_err()).await;
    assert_eq!(get(local(process.admin), "/readyz").await.status, 200, "it is never unready again");
    go_on.notify_one();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"halfrest"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut process = Process::start(saying("ok"), &["--termination-wait", "1h"]).await;
    process.signal("TERM").await;
    let answered_close = async { while process.get("/").await.header("connection") != Some("close") {} };
    tokio::time::timeout(PATIENCE, answered_close).await.expect("it leaves");
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_does_not_wait_for_slow_clients_and_keeps_no_connection() {
    let process = Process::start(saying("ok"), &[]).await;
    let mut slow = TcpStream::connect(local(process.admin)).await.unwrap();
    slow.write_all(b"GET /metr").await.unwrap();
    let mut quick = TcpStream::connect(local(process.admin)).await.unwrap();
    quick.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    for (socket, answer) in [(&mut quick, "HTTP/1.1 200 "), (&mut slow, "")] {
        let mut said = String::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_string(&mut said)).await;
        read.expect("it is closed").unwrap();
        assert!(said.starts_with(answer) && said.is_empty() == answer.is_empty(), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_misbehaves_fills_no_log() {
    let mut process =
        Process::start_with(saying("ok"), &["--termination-wait", "0s"], Stdio::inherit(), Stdio::piped())
            .await;
    let mut socket = TcpStream::connect(local(process.port)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    drop(socket);
    let gone = [
        r#"evenkeel_proxy_connections_accepted_total{listener="web"} 1"#,
        r#"evenkeel_proxy_connections{listener="web"} 0"#,
    ];
    let all = |answer: &Answer| gone.iter().all(|line| answer.text().contains(line));
    process.until("the client is gone", "/metrics", all).await;
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
    let mut log = String::new();
    process.child.stderr.take().expect("it is piped").read_to_string(&mut log).await.unwrap();
    assert!(log.contains("listening") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_admin_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot.yaml");
    std::fs::write(&file, saying("ok")(free_port())).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let _forking = FORKS.lock().await;
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-proxy"))
        .args(["--admin", &address, "--snapshot"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&address) && said.contains("in use"), "{said}");
}
