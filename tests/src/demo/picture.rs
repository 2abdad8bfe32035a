//! The show as a picture: SVG, readable on light and on dark pages.

use std::fmt::Write as _;
use std::time::Duration;

use super::story::{Phase, Sample, Story, Summary};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 936.0;
const PLOT_HEIGHT: f64 = 110.0;
const PHASES: [(Phase, &str); 3] =
    [(Phase::Calm, "#eef6f3"), (Phase::Spike, "#fdf1dc"), (Phase::Quiet, "#eef6f3")];

struct Plot<'a> {
    title: &'a str,
    top: f64,
    /// Height of the plot's upper edge in the picture.
    y: f64,
    end: f64,
}

/// Draws it.
pub fn svg(story: &Story, summary: &Summary) -> String {
    let end = story.now().map_or(1.0, |now| now.at.as_secs_f64()).max(1.0);
    let rate = story.samples.iter().map(|sample| sample.rate).fold(1.0, f64::max);
    let target = f64::from(story.target_percent);
    let cpu = story.samples.iter().filter_map(|s| s.observed.cpu_percent).fold(target * 1.5, f64::max);
    let plots = [
        Plot { title: "requests/s", top: rate, y: 196.0, end },
        Plot { title: "CPU, % of the requests", top: cpu, y: 356.0, end },
        Plot { title: "replicas", top: f64::from(story.max), y: 516.0, end },
    ];
    let height = 730.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"#22303c\">\n\
         <title>A traffic spike, and how the replicas followed it</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"12\" fill=\"#ffffff\" stroke=\"#d5dde3\"/>\n"
    );
    text(
        &mut out,
        (24.0, 38.0),
        "font-size=\"20\" font-weight=\"600\"",
        "A traffic spike, and how the replicas followed it",
    );
    tiles(&mut out, summary);
    for plot in &plots {
        frame(&mut out, story, plot);
    }
    let [requests, utilization, replicas] = &plots;
    area(&mut out, requests, "#2a7de1", story, |sample| Some(sample.rate));
    path(&mut out, utilization, "#e0692e", &series(story, |sample| sample.observed.cpu_percent));
    target_line(&mut out, utilization, target);
    area(&mut out, replicas, "#2c9f6b", story, |sample| Some(sample.observed.ready.len() as f64));
    path(
        &mut out,
        replicas,
        "#22303c",
        &steps(&series(story, |sample| Some(f64::from(sample.observed.desired)))),
    );
    legend(&mut out, story);
    out.push_str("</svg>\n");
    out
}

fn tiles(out: &mut String, summary: &Summary) {
    let lines = summary.lines();
    let width = (RIGHT - 24.0) / lines.len() as f64;
    for (i, (name, value)) in lines.iter().enumerate() {
        let x = 24.0 + i as f64 * width;
        text(out, (x, 86.0), "font-size=\"24\" font-weight=\"600\"", value);
        for (row, words) in wrap(name, 20).iter().enumerate() {
            text(out, (x, 106.0 + row as f64 * 15.0), "font-size=\"12\" fill=\"#5b6b78\"", words);
        }
    }
}

/// Background by act, title, upper bound, and seconds below the last plot.
fn frame(out: &mut String, story: &Story, plot: &Plot) {
    for (phase, color) in PHASES {
        let Some(began) = story.began(phase) else { continue };
        let ended =
            story.samples.iter().rev().find(|sample| sample.phase == phase).map_or(began, |sample| sample.at);
        let (from, to) = (x(plot, began), x(plot, ended));
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{PLOT_HEIGHT}\" fill=\"{color}\"/>",
            plot.y,
            to - from
        );
        text(
            out,
            (from + 6.0, plot.y + PLOT_HEIGHT + 15.0),
            "font-size=\"11\" fill=\"#5b6b78\"",
            &format!("{phase}, from {:.0} s", began.as_secs_f64()),
        );
    }
    text(out, (LEFT, plot.y - 8.0), "font-weight=\"600\"", plot.title);
    let right = "text-anchor=\"end\" font-size=\"11\" fill=\"#5b6b78\"";
    text(out, (LEFT - 8.0, plot.y + 10.0), right, &format!("{:.0}", plot.top));
    text(out, (LEFT - 8.0, plot.y + PLOT_HEIGHT), right, "0");
}

fn legend(out: &mut String, story: &Story) {
    let first = story.first_new_replica.map(|time| {
        let began = story.began(Phase::Spike).unwrap_or_default();
        format!("; first new replica serving at {:.1} s", (began + time).as_secs_f64())
    });
    let words = format!("green: ready; line: desired{}", first.unwrap_or_default());
    text(out, (LEFT, 668.0), "font-size=\"12\" fill=\"#5b6b78\"", &words);
    let end = story.now().map_or(0.0, |now| now.at.as_secs_f64());
    text(
        out,
        (RIGHT, 668.0),
        "text-anchor=\"end\" font-size=\"12\" fill=\"#5b6b78\"",
        &format!("{end:.0} s"),
    );
    let now = "Every request counts as failed that had no answer, or one other than 2XX.";
    text(out, (LEFT, 700.0), "font-size=\"12\" fill=\"#5b6b78\"", now);
}

fn target_line(out: &mut String, plot: &Plot, target: f64) {
    let height = y(plot, target);
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {height:.1}H{RIGHT}\" stroke=\"#5b6b78\" stroke-dasharray=\"4 4\" fill=\"none\"/>"
    );
    text(
        out,
        (RIGHT - 4.0, height - 5.0),
        "text-anchor=\"end\" font-size=\"11\" fill=\"#5b6b78\"",
        &format!("target {target:.0} %"),
    );
}

fn series(story: &Story, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(Duration, f64)> {
    story.samples.iter().filter_map(|sample| Some((sample.at, value(sample)?))).collect()
}

/// The same points, each level since the one before it: a sample is of the time before its end.
fn steps(points: &[(Duration, f64)]) -> Vec<(Duration, f64)> {
    let mut before = Duration::ZERO;
    let mut out = Vec::with_capacity(points.len() * 2);
    for &(at, value) in points {
        out.extend([(before, value), (at, value)]);
        before = at;
    }
    out
}

fn path(out: &mut String, plot: &Plot, color: &str, points: &[(Duration, f64)]) {
    let _ = writeln!(
        out,
        "<path d=\"{}\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\" fill=\"none\"/>",
        line(plot, points)
    );
}

fn area(out: &mut String, plot: &Plot, color: &str, story: &Story, value: impl Fn(&Sample) -> Option<f64>) {
    let points = steps(&series(story, value));
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let (from, to, bottom) = (x(plot, first.0), x(plot, last.0), plot.y + PLOT_HEIGHT);
    let _ = writeln!(
        out,
        "<path d=\"{}L{to:.1} {bottom}L{from:.1} {bottom}Z\" fill=\"{color}\" fill-opacity=\"0.35\" stroke=\"{color}\"/>",
        line(plot, &points)
    );
}

fn line(plot: &Plot, points: &[(Duration, f64)]) -> String {
    let mut path = String::new();
    for (i, &(at, value)) in points.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", x(plot, at), y(plot, value));
    }
    path
}

fn x(plot: &Plot, at: Duration) -> f64 {
    LEFT + (RIGHT - LEFT) * at.as_secs_f64() / plot.end
}

fn y(plot: &Plot, value: f64) -> f64 {
    plot.y + PLOT_HEIGHT * (1.0 - value / plot.top)
}

fn text(out: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>");
}

fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < width => *line = format!("{line} {word}"),
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::story::{example, thousand};

    #[test]
    fn the_picture_shows_every_line_of_the_summary_and_nothing_outside_the_frame() {
        let story = example();
        let summary = Summary::of(&story, &thousand(0));
        let svg = svg(&story, &summary);
        for (_, value) in summary.lines() {
            assert!(svg.contains(&format!(">{value}<")), "{value}");
        }
        for number in
            svg.split(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').filter(|n| n.contains('.'))
        {
            let Ok(number) = number.parse::<f64>() else { continue };
            assert!((0.0..=WIDTH).contains(&number), "{number}");
        }
    }

    #[test]
    fn steps_are_level_since_the_point_before() {
        let at = Duration::from_secs;
        let stepped = steps(&[(at(1), 2.0), (at(2), 4.0)]);
        assert_eq!(stepped, [(at(0), 2.0), (at(1), 2.0), (at(1), 4.0), (at(2), 4.0)]);
    }
}
