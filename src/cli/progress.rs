//! Progress on the terminal, for what takes longer than a second.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that shows up once a step has taken a second, on a terminal only.
pub(super) struct Bar {
    what: &'static str,
    total: usize,
    quiet: bool,
    start: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Bar {
    /// A bar for `total` units of `what`.
    pub(super) fn new(what: &'static str, total: usize, quiet: bool) -> Bar {
        Bar { what, total, quiet, start: Instant::now(), bar: OnceLock::new() }
    }

    /// Shows that `done` units are done.
    pub(super) fn at(&self, done: usize) {
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.quiet || self.start.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
            let bar = ProgressBar::new(self.total as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what);
            bar
        });
        bar.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// Bars for the stages of a long command, one after the other.
pub(super) struct Bars {
    quiet: bool,
    current: Mutex<Option<Bar>>,
}

impl Bars {
    pub(super) fn new(quiet: bool) -> Bars {
        Bars { quiet, current: Mutex::new(None) }
    }

    /// Shows that `done` of `total` units of `what` are done.
    pub(super) fn at(&self, what: &'static str, done: usize, total: usize) {
        let Ok(mut current) = self.current.lock() else { return };
        if current.as_ref().is_none_or(|bar| bar.what != what || bar.total != total) {
            *current = Some(Bar::new(what, total, self.quiet));
        }
        if let Some(bar) = current.as_ref() {
            bar.at(done);
        }
    }
}
