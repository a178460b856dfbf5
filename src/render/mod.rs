//! What a person sees of a run, on standard error: a bar on a terminal, sparse plain lines elsewhere.

mod text;

use crate::cli::Color;
use evenkeel_proto::v1;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
pub use text::{Paint, totals_line};

/// How to talk.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub paint: Paint,
    terminal: bool,
    quiet: bool,
}

impl Style {
    pub fn new(color: Color, quiet: bool) -> Style {
        let terminal = std::io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = Paint::new(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !plain,
        });
        Style {
            paint,
            terminal,
            quiet,
        }
    }
}

/// Without a terminal, progress is said this often at most.
const SPARSE: Duration = Duration::from_secs(10);
/// More failures than this are printed as one line each: the report has their output.
const FULL_FAILURES: u32 = 30;
/// As many slots are shown on a terminal.
const SHOWN_SLOTS: usize = 8;

pub struct Renderer {
    style: Style,
    run: String,
    bars: Option<Bars>,
    last: Option<v1::Progress>,
    last_at: Instant,
    said_at: Instant,
    said_units: u32,
    failures: u32,
    /// The shard that the only slot plays, where it is another run's.
    playing: u32,
    /// The coordinator that has the run, where it is not this process's own.
    coordinator: Option<String>,
}

struct Bars {
    all: MultiProgress,
    main: ProgressBar,
    slots: Vec<ProgressBar>,
}

impl Renderer {
    pub fn new(style: Style, run: String) -> Renderer {
        let bars = (style.terminal && !style.quiet).then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let main = all.add(ProgressBar::new(0));
            let template = "{bar:30.cyan/dim} {msg}";
            main.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            Bars {
                all,
                main,
                slots: Vec::new(),
            }
        });
        let now = Instant::now();
        let renderer = Renderer {
            style,
            run,
            bars,
            last: None,
            last_at: now,
            said_at: now,
            said_units: 0,
            failures: 0,
            playing: 0,
            coordinator: None,
        };
        if !style.quiet {
            renderer.say(&format!("run {}", renderer.run));
        }
        renderer
    }

    /// What happens is shown as happening on this shard, counted from 0.
    pub fn playing(mut self, shard: u32) -> Renderer {
        self.playing = shard;
        self
    }

    /// The run is this coordinator's, and is asked for there.
    pub fn of(mut self, coordinator: Option<&str>) -> Renderer {
        self.coordinator = coordinator.map(str::to_owned);
        self
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }

    /// Returns when what is shown should be drawn again although nothing was heard: clocks go on.
    pub async fn tick(&mut self) {
        if self.bars.is_none() || self.last.is_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.draw();
    }

    pub fn progress(&mut self, progress: v1::Progress) {
        self.last = Some(progress);
        self.last_at = Instant::now();
        if self.bars.is_some() {
            self.draw();
        } else if !self.style.quiet {
            self.say_sparsely();
        }
    }

    fn say_sparsely(&mut self) {
        let Some(progress) = &self.last else { return };
        if self.said_at.elapsed() < SPARSE || progress.units_done == self.said_units {
            return;
        }
        self.said_at = Instant::now();
        self.said_units = progress.units_done;
        let line = text::progress_line(progress, Duration::ZERO);
        self.say(&line);
    }

    fn draw(&mut self) {
        let (Some(bars), Some(progress)) = (&mut self.bars, &self.last) else {
            return;
        };
        let since = self.last_at.elapsed();
        bars.main.set_length(progress.units.max(1).into());
        bars.main.set_position(progress.units_done.into());
        bars.main.set_message(text::progress_line(progress, since));
        let shown = progress.running.len().min(SHOWN_SLOTS);
        while bars.slots.len() < shown {
            let bar = bars.all.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("  {msg:.dim}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bars.slots.push(bar);
        }
        for (index, bar) in bars.slots.iter().enumerate() {
            match progress.running.get(index) {
                Some(running) => {
                    let seconds = Duration::from_micros(running.since_us) + since;
                    bar.set_message(format!(
                        "{:>3}: {} {:.0} s",
                        running.shard + self.playing + 1,
                        running.what,
                        seconds.as_secs_f64()
                    ));
                }
                None => bar.set_message(""),
            }
        }
    }

    /// A failure, the moment it happens, once.
    pub fn failure(&mut self, mut failure: v1::Failure) {
        failure.shard += self.playing;
        self.failures += 1;
        let full = self.failures <= FULL_FAILURES;
        self.say(&text::failure(self.style.paint, &failure, full));
        if self.failures == FULL_FAILURES {
            self.say("(further failures in one line each; the reports have their output)");
        }
    }

    /// What a test printed that did not fail.
    pub fn printed(&mut self, printed: v1::Printed) {
        self.say(&text::printed(self.style.paint, &printed, self.playing));
    }

    pub fn log(&mut self, notice: &v1::Notice) {
        if self.style.quiet
            && matches!(
                notice.level(),
                v1::slot_log::Level::Info | v1::slot_log::Level::Progress
            )
        {
            return;
        }
        let paint = self.style.paint;
        let label = match notice.level() {
            v1::slot_log::Level::Progress => return self.say(&notice.text),
            v1::slot_log::Level::Error => paint.red("error:"),
            v1::slot_log::Level::Warning => paint.yellow("warning:"),
            v1::slot_log::Level::Info | v1::slot_log::Level::Unspecified => "note:".to_owned(),
        };
        self.say(&format!("{label} {}", notice.text));
    }

    pub fn notice(&mut self, text: &str) {
        self.say(text);
    }

    pub fn ended(&mut self, ended: &v1::Ended) {
        if let Some(bars) = self.bars.take() {
            for bar in &bars.slots {
                bar.finish_and_clear();
            }
            bars.main.finish_and_clear();
            bars.all.clear().ok();
        }
        // The command that is printed has to find the run again from here.
        let place = match &self.coordinator {
            Some(coordinator) => format!(" --coordinator {}", text::quoted(coordinator)),
            None => {
                let found = crate::show::nearest_state();
                let here = found.as_deref() == Some(std::path::Path::new(&ended.state));
                let named = || format!(" --state {}", text::quoted(&ended.state));
                if here { String::new() } else { named() }
            }
        };
        let text = text::ended(self.style.paint, self.style.quiet, ended, &self.run, &place);
        std::io::stderr().write_all(text.as_bytes()).ok();
    }
}
