//! Plays the script and tells what happens, as it happens.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::DefaultTerminal;

use super::observe::Observer;
use super::story::{Phase, Sample, Story, Summary};
use super::{plain, screen, script};
use crate::traffic::{Client, Load, Pace, Recorder, Tally};

/// How often the screen is drawn, and the keyboard looked at.
const FRAME: Duration = Duration::from_millis(250);
/// Frames in a sample.
const FRAMES_PER_SAMPLE: u32 = 4;

/// The show while it runs.
pub struct Show<'a> {
    observer: &'a Observer,
    client: Client,
    url: String,
    recorder: Recorder,
    load: Option<Load>,
    phase: Phase,
    start: Instant,
    spike: Option<(Instant, BTreeSet<String>)>,
    story: Story,
    /// How many marks were printed.
    told: usize,
}

impl<'a> Show<'a> {
    /// A show that sends its requests to `url`, with this story to write.
    pub fn new(observer: &'a Observer, url: String, story: Story) -> Self {
        Self {
            observer,
            client: Client::http1(&url),
            url,
            recorder: Recorder::default(),
            load: None,
            phase: Phase::Calm,
            start: Instant::now(),
            spike: None,
            story,
            told: 0,
        }
    }

    /// Plays it to its end, or until somebody presses `q`.
    ///
    /// # Errors
    /// When the terminal fails.
    pub async fn play(mut self) -> Result<(Story, Summary)> {
        let mut terminal = std::io::stdout().is_terminal().then(ratatui::init);
        let played = self.run(&mut terminal).await;
        if terminal.is_some() {
            ratatui::restore();
        }
        played?;
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
        let summary = Summary::of(&self.story, &self.recorder.total());
        Ok((self.story, summary))
    }

    async fn run(&mut self, terminal: &mut Option<DefaultTerminal>) -> Result<()> {
        self.enter(Phase::Calm);
        let mut frames = tokio::time::interval(FRAME);
        frames.tick().await;
        for frame in 1_u32.. {
            frames.tick().await;
            if frame.is_multiple_of(FRAMES_PER_SAMPLE) {
                self.sample(terminal.is_none());
            }
            if let Some(terminal) = terminal {
                let total = self.recorder.total();
                terminal.draw(|frame| screen::draw(frame, &self.story, total.requests, total.failed()))?;
                if asked_to_quit()? {
                    break;
                }
            }
            if self.phase == Phase::Over {
                break;
            }
        }
        Ok(())
    }

    /// Begins an act: its requests take the place of the last one's, whose answers are still waited for and counted.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let next = script::scene(phase).map(|scene| {
            let client = self.client.with_url(format!("{}{}", self.url, scene.path));
            self.story.mark(self.start.elapsed(), format!("{phase}: {}", scene.description));
            Load::start(&client, Pace::Rate(scene.rate), self.recorder.clone())
        });
        if phase == Phase::Spike {
            let known = self.recorder.total().first_answer.into_keys().collect();
            self.spike = Some((Instant::now(), known));
        }
        match (std::mem::replace(&mut self.load, next), phase) {
            (Some(load), Phase::Over) => self.load = Some(load), // stopped by `play`, which waits for it
            (Some(load), _) => drop(tokio::spawn(load.stop())),
            (None, _) => {}
        }
    }

    fn sample(&mut self, aloud: bool) {
        let window = self.recorder.take_window();
        self.story.push(self.seen(window));
        self.look_for_new_replicas();
        self.compare_replicas();
        let next = script::next(self.phase, &self.story);
        if next != self.phase {
            self.enter(next);
        }
        if aloud {
            self.tell();
        }
    }

    /// Prints what is new.
    fn tell(&mut self) {
        for mark in self.story.marks.iter().skip(self.told) {
            println!("{}", plain::mark(mark));
        }
        self.told = self.story.marks.len();
        if let Some(now) = self.story.now() {
            println!("{}", plain::line(now, self.story.target_percent));
        }
    }

    fn seen(&self, window: Tally) -> Sample {
        let at = self.start.elapsed();
        let span = at.saturating_sub(self.story.now().map_or(Duration::ZERO, |last| last.at));
        Sample {
            at,
            phase: self.phase,
            rate: window.requests as f64 / span.as_secs_f64().max(0.001),
            failed: window.failed(),
            p50: window.percentile(50.0),
            p99: window.percentile(99.0),
            by_replica: window.by_replica,
            observed: self.observer.now(),
        }
    }

    /// Replicas are compared from when all of them serve until others come.
    fn compare_replicas(&mut self) {
        if self.phase != Phase::Spike {
            return;
        }
        if self.story.other_replicas() || !self.story.all_serve() {
            self.recorder.begin_span(Instant::now());
        } else if let Some(span) = self.recorder.span() {
            self.story.spread = Some((span.by_replica.len(), span.spread_percent()));
        }
    }

    fn look_for_new_replicas(&mut self) {
        let (None, Some((began, known))) = (self.story.first_new_replica, &self.spike) else { return };
        let answers = self.recorder.total().first_answer;
        let first =
            answers.into_iter().filter(|(replica, _)| !known.contains(replica)).map(|(_, at)| at).min();
        if let Some(first) = first {
            let took = first.saturating_duration_since(*began);
            self.story.first_new_replica = Some(took);
            let text = format!("first new replica serves, {:.1} s after the spike began", took.as_secs_f64());
            self.story.mark(self.start.elapsed(), text);
        }
    }
}

fn asked_to_quit() -> Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()? {
            let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || key.code == KeyCode::Char('q') {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
