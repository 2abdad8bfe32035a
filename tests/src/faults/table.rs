//! What the runs of a case come to, as lines of a Markdown table.

use super::run::Run;

/// The first lines.
pub const HEAD: &str = "\
| Case | Runs | Requests | Failed per run: least, median, most | Sessions closed | Last failure after, at most | All well again after: median, at most |
|---|---:|---:|---:|---:|---:|---:|";

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
    let mut took: Vec<f64> = runs.iter().map(|run| run.took.as_secs_f64()).collect();
    took.sort_unstable_by(f64::total_cmp);
    let [typical, longest] =
        [took.len() / 2, took.len().saturating_sub(1)].map(|index| took.get(index).unwrap_or(&0.0));
    let failed = format!("{least}, {median}, {most}");
    format!(
        "| {name} | {} | {requests} | {failed} | {closed} | {last} | {typical:.1} s, {longest:.1} s |",
        runs.len()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_sums_up_all_runs() {
        let run = |failed, seconds: Option<u64>| Run {
            requests: 1000,
            failures: [("GET: answered 502".to_owned(), failed)].into(),
            sessions_closed: 1,
            last_failure: seconds.map(Duration::from_secs),
            took: Duration::from_secs(10 + failed),
        };
        let runs = [run(7, Some(2)), run(0, None), run(3, Some(1))];
        assert_eq!(
            line("proxy-killed", &runs),
            "| proxy-killed | 3 | 3000 | 0, 3, 7 | 3 | 2.0 s | 13.0 s, 17.0 s |"
        );
        assert_eq!(
            line("rollout", &[run(0, None)]),
            "| rollout | 1 | 1000 | 0, 0, 0 | 1 | – | 10.0 s, 10.0 s |"
        );
    }
}
