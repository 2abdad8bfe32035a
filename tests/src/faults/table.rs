//! What the runs of a case come to, as lines of a Markdown table.

use std::time::Duration;

use super::run::Run;

/// The first lines.
pub const HEAD: &str = "\
| Case | Runs | Requests | Failed per run: least, median, most | p99 of a GET: median, most | Sessions closed | Last failure after, at most | Decision to removal of a replica: median, at most | All well again after: median, at most |
|---|---:|---:|---:|---:|---:|---:|---:|---:|";

/// The line of a case.
pub fn line(name: &str, runs: &[Run]) -> String {
    let mut failed: Vec<u64> = runs.iter().map(Run::failed).collect();
    failed.sort_unstable();
    let at = |index: usize| failed.get(index).copied().unwrap_or_default();
    let [least, median, most] = [at(0), at(failed.len() / 2), at(failed.len().saturating_sub(1))];
    let requests: u64 = runs.iter().map(|run| run.requests).sum();
    let closed: u64 = runs.iter().map(|run| run.sessions_closed).sum();
    let last = runs.iter().filter_map(|run| run.last_failure).max();
    let last = last.map_or("–".into(), |last| format!("{:.1} s", last.as_secs_f64()));
    let p99 = median_and_most(runs.iter().map(|run| run.p99), |seconds| format!("{:.0} ms", seconds * 1e3));
    let in_seconds = |seconds: f64| format!("{seconds:.1} s");
    let removals = median_and_most(runs.iter().flat_map(|run| run.removals.iter().copied()), in_seconds);
    let took = median_and_most(runs.iter().map(|run| run.took), in_seconds);
    let failed = format!("{least}, {median}, {most}");
    format!(
        "| {name} | {} | {requests} | {failed} | {p99} | {closed} | {last} | {removals} | {took} |",
        runs.len()
    )
}

fn median_and_most(durations: impl Iterator<Item = Duration>, show: impl Fn(f64) -> String) -> String {
    let mut durations: Vec<f64> = durations.map(|duration| duration.as_secs_f64()).collect();
    durations.sort_unstable_by(f64::total_cmp);
    match (durations.get(durations.len() / 2), durations.last()) {
        (Some(median), Some(most)) => format!("{}, {}", show(*median), show(*most)),
        _ => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sums_up_all_runs() {
        let run = |failed, seconds: Option<u64>| Run {
            requests: 1000,
            failures: [("GET: answered 502".to_owned(), failed)].into(),
            sessions_closed: 1,
            last_failure: seconds.map(Duration::from_secs),
            p99: Duration::from_millis(5 + failed),
            took: Duration::from_secs(10 + failed),
            removals: (0..failed).map(Duration::from_secs).collect(),
        };
        let runs = [run(7, Some(2)), run(0, None), run(3, Some(1))];
        assert_eq!(
            line("proxy-killed", &runs),
            "| proxy-killed | 3 | 3000 | 0, 3, 7 | 8 ms, 12 ms | 3 | 2.0 s | 2.0 s, 6.0 s | 13.0 s, 17.0 s |"
        );
        assert_eq!(
            line("rollout", &[run(0, None)]),
            "| rollout | 1 | 1000 | 0, 0, 0 | 5 ms, 5 ms | 1 | – | – | 10.0 s, 10.0 s |"
        );
    }
}
