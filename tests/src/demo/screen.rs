//! The show in a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, LegendPosition, Paragraph, Wrap};

use super::script::scene;
use super::story::{Phase, Sample, Story};

const GOOD: Color = Color::Green;
const BAD: Color = Color::Red;
const ACCENT: Color = Color::Cyan;
const WARM: Color = Color::Yellow;

/// Draws the story so far.
pub fn draw(frame: &mut Frame, story: &Story, requests: u64, failed: u64) {
    let [title, tiles, charts, below, help] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(5),
        Constraint::Min(9),
        Constraint::Length(u16::try_from(story.max).unwrap_or(8).clamp(4, 12) + 2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(story)), title);
    let quit = "q leaves the show; the cluster stays";
    frame.render_widget(Paragraph::new(quit.dark_gray()), help);
    let Some(now) = story.now() else { return };
    draw_tiles(frame, tiles, story, now, (requests, failed));
    let [left, right] = halves(charts);
    cpu_chart(frame, left, story);
    replica_chart(frame, right, story);
    let [left, right] = halves(below);
    frame.render_widget(
        Paragraph::new(shares(now, left.width)).block(block("Share of the requests, per replica")),
        left,
    );
    frame.render_widget(happened(story, right.height), right);
}

fn headline(story: &Story) -> Line<'static> {
    let phase = story.now().map_or(Phase::Calm, |now| now.phase);
    let at = story.now().map_or(0, |now| now.at.as_secs());
    let color = if phase == Phase::Spike { WARM } else { GOOD };
    Line::from(vec![
        Span::styled(" Evenkeel ", Style::new().bg(ACCENT).fg(Color::Black).add_modifier(Modifier::BOLD)),
        Span::styled(format!("  ● {phase}  "), Style::new().fg(color).add_modifier(Modifier::BOLD)),
        Span::raw(scene(phase).map_or("", |scene| scene.description)),
        Span::styled(format!("   {:02}:{:02}", at / 60, at % 60), Style::new().fg(Color::DarkGray)),
    ])
}

fn draw_tiles(frame: &mut Frame, area: Rect, story: &Story, now: &Sample, (requests, failed): (u64, u64)) {
    let areas: [Rect; 4] = Layout::horizontal([Constraint::Ratio(1, 4); 4]).areas(area);
    let observed = &now.observed;
    let cpu = observed.cpu_percent;
    let cpu_color = if cpu.is_some_and(|cpu| cpu > f64::from(story.target_percent)) { WARM } else { GOOD };
    let tiles: [(&str, Vec<Line>); 4] = [
        (
            "Requests",
            vec![
                big(format!("{:.0}/s", now.rate), ACCENT),
                dim(format!("{requests} in all")),
                Line::styled(format!("{failed} failed"), if failed == 0 { GOOD } else { BAD }),
            ],
        ),
        (
            "Latency",
            vec![
                big(format!("p50 {:.1} ms", now.p50.as_secs_f64() * 1e3), ACCENT),
                big(format!("p99 {:.1} ms", now.p99.as_secs_f64() * 1e3), ACCENT),
            ],
        ),
        (
            "CPU of the replicas",
            vec![
                big(cpu.map_or("not measured yet".into(), |cpu| format!("{cpu:.0} %")), cpu_color),
                dim(format!("target {} %", story.target_percent)),
            ],
        ),
        (
            "Replicas",
            vec![
                big(dots(now), GOOD),
                Line::from(format!("desired {}  ready {}", observed.desired, observed.ready.len())),
                dim(format!("draining {}  (from {} to {})", observed.draining, story.min, story.max)),
            ],
        ),
    ];
    for ((title, lines), area) in tiles.into_iter().zip(areas) {
        frame.render_widget(Paragraph::new(lines).block(block(title)), area);
    }
}

fn dots(now: &Sample) -> String {
    let ready = now.observed.ready.len();
    let coming =
        usize::try_from(now.observed.pods - now.observed.draining).unwrap_or(0).saturating_sub(ready);
    let draining = usize::try_from(now.observed.draining).unwrap_or(0);
    format!("{}{}{}", "●".repeat(ready), "○".repeat(coming), "◌".repeat(draining))
}

fn cpu_chart(frame: &mut Frame, area: Rect, story: &Story) {
    let cpu = points(story, |sample| sample.observed.cpu_percent);
    let target = points(story, |_| Some(f64::from(story.target_percent)));
    let top = cpu.iter().map(|point| point.1).fold(f64::from(story.target_percent) * 2.0, f64::max);
    let lines = [line("target", WARM, GraphType::Line, &target), line("CPU", ACCENT, GraphType::Line, &cpu)];
    chart(frame, area, "CPU in percent of the requests, against the target", lines, (story, top));
}

fn replica_chart(frame: &mut Frame, area: Rect, story: &Story) {
    let desired = points(story, |sample| Some(f64::from(sample.observed.desired)));
    let ready = points(story, |sample| Some(sample.observed.ready.len() as f64));
    let lines = [
        line("desired", Color::DarkGray, GraphType::Line, &desired),
        line("ready", GOOD, GraphType::Line, &ready),
    ];
    chart(frame, area, "Replicas, desired and ready", lines, (story, f64::from(story.max)));
}

fn points(story: &Story, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    story.samples.iter().filter_map(|sample| Some((sample.at.as_secs_f64(), value(sample)?))).collect()
}

fn line<'a>(name: &'a str, color: Color, graph: GraphType, points: &'a [(f64, f64)]) -> Dataset<'a> {
    Dataset::default().name(name).marker(Marker::Braille).graph_type(graph).style(color).data(points)
}

fn chart(frame: &mut Frame, area: Rect, title: &str, lines: [Dataset; 2], (story, top): (&Story, f64)) {
    let end = story.now().map_or(0.0, |now| now.at.as_secs_f64()).max(30.0);
    let x = Axis::default().bounds([0.0, end]).labels(["0 s".into(), format!("{end:.0} s")]).dark_gray();
    let y = Axis::default().bounds([0.0, top]).labels(["0".into(), format!("{top:.0}")]).dark_gray();
    frame.render_widget(
        Chart::new(lines.into())
            .legend_position(Some(LegendPosition::TopLeft))
            .x_axis(x)
            .y_axis(y)
            .block(block(title)),
        area,
    );
}

/// A bar per replica, as long as its share of the last second's requests.
fn shares(now: &Sample, width: u16) -> Vec<Line<'static>> {
    let total: u64 = now.by_replica.values().sum();
    let most = now.by_replica.values().max().copied().unwrap_or(1).max(1);
    let longest = f64::from(width.saturating_sub(32));
    let bar = |(replica, count): (&String, &u64)| {
        let end: String = replica.chars().skip(replica.chars().count().saturating_sub(16)).collect();
        let name = end.trim_start_matches('-');
        let length = (*count as f64 / most as f64 * longest) as usize;
        Line::from(vec![
            Span::raw(format!("{name:>17} ")),
            Span::styled("█".repeat(length), Style::new().fg(ACCENT)),
            Span::raw(format!(" {:.1} %", *count as f64 / total.max(1) as f64 * 100.0)),
        ])
    };
    now.by_replica.iter().map(bar).collect()
}

fn happened(story: &Story, height: u16) -> Paragraph<'static> {
    let fits = usize::from(height.saturating_sub(2));
    let recent = story.marks.iter().rev().take(fits).rev();
    let lines: Vec<Line> = recent
        .map(|mark| {
            let time = format!("{:>4.0} s  ", mark.at.as_secs_f64());
            Line::from(vec![
                Span::styled(time, Style::new().fg(Color::DarkGray)),
                Span::raw(mark.text.clone()),
            ])
        })
        .collect();
    Paragraph::new(lines).wrap(Wrap { trim: false }).block(block("What happened"))
}

fn halves(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area)
}

fn block(title: &str) -> Block<'_> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Color::DarkGray)
        .title(format!(" {title} "))
}

fn big(text: impl Into<String>, color: Color) -> Line<'static> {
    Line::styled(text.into(), Style::new().fg(color).add_modifier(Modifier::BOLD))
}

fn dim(text: impl Into<String>) -> Line<'static> {
    Line::styled(text.into(), Style::new().fg(Color::DarkGray))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::story::example;
    use super::*;

    fn drawn(width: u16, height: u16, story: &Story) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, story, 12_345, 0)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_usual_terminal_shows_everything() {
        let screen = drawn(120, 40, &example());
        let expected = [
            "quiet",
            "12345 in all",
            "0 failed",
            "p99 14.0 ms",
            "target 50 %",
            "desired 2  ready 2",
            "2 → 8: CPU at 180 %",
        ];
        for words in expected.into_iter().chain(["●●", "draining 0", "50.0 %"]) {
            assert!(screen.contains(words), "{words}:\n{screen}");
        }
    }

    #[test]
    fn neither_a_tiny_terminal_nor_an_empty_story_is_a_problem() {
        for (width, height) in [(1, 1), (20, 5), (60, 20)] {
            drawn(width, height, &example());
            drawn(width, height, &Story::new(50, 1, 1));
        }
    }
}
