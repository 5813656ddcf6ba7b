//! Many samples through a session: several in flight, results observed as they come.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{EngineError, Feeds, Session};
use crate::data::{DataError, Source};
use crate::ir::Tensor;

/// Why a run over samples stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A sample cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine cannot run it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Sees what a session computes. Each thread has its own; they are merged in the end.
pub trait Observer: Send {
    /// The value of a tap, by its index, in a sample.
    fn tap(&mut self, sample: usize, index: usize, value: Tensor) {
        let _ = (sample, index, value);
    }

    /// The outputs of a sample.
    fn outputs(&mut self, sample: usize, outputs: Vec<Tensor>) {
        let _ = (sample, outputs);
    }

    /// Takes over what another thread's observer saw.
    fn merge(&mut self, other: Self);
}

/// Told how many samples are done.
pub type Progress<'a> = &'a (dyn Fn(usize) + Sync);

/// The number of threads that keep all cores busy.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs all samples through the session and shows an observer the taps and outputs of each.
/// Thread `t` of `n` takes the samples `t`, `t + n`, …; observers are merged in the order of the
/// threads, so that equal runs on equally many threads give equal results. Memory does not grow
/// with the number of samples.
///
/// # Errors
/// Of the first sample that cannot be had or run.
pub fn run_all<O: Observer>(
    session: &dyn Session,
    samples: &dyn Source,
    threads: usize,
    make: impl Fn() -> O + Sync,
    progress: Progress,
) -> Result<O, RunError> {
    let step = |o: &mut O, i: usize, feeds: Feeds| {
        let outputs = session.run(&feeds, &mut |index, value| o.tap(i, index, value))?;
        o.outputs(i, outputs);
        Ok(())
    };
    for_each_sample(samples, threads, make, step, O::merge, progress)
}

/// As [`run_all`], with any `step` in the place of a session.
///
/// # Errors
/// Of the first sample that cannot be had, or whose step fails.
pub fn for_each_sample<O: Send>(
    samples: &dyn Source,
    threads: usize,
    make: impl Fn() -> O + Sync,
    step: impl Fn(&mut O, usize, Feeds) -> Result<(), RunError> + Sync,
    merge: impl Fn(&mut O, O),
    progress: Progress,
) -> Result<O, RunError> {
    let threads = threads.clamp(1, samples.len().max(1));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let work = &|thread: usize| {
        let mut o = make();
        for i in (thread..samples.len()).step_by(threads) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let result =
                samples.get(i).map_err(RunError::from).and_then(|feeds| step(&mut o, i, feeds));
            if let Err(e) = result {
                stop.store(true, Ordering::Relaxed);
                return Err((i, e));
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        Ok(o)
    };
    let results: Vec<Result<O, (usize, RunError)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|t| scope.spawn(move || work(t))).collect();
        handles
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut merged: Option<O> = None;
    let mut first: Option<(usize, RunError)> = None;
    for result in results {
        match result {
            Ok(o) => match &mut merged {
                Some(all) => merge(all, o),
                None => merged = Some(o),
            },
            Err(e) => first = Some(first.filter(|f| f.0 < e.0).unwrap_or(e)),
        }
    }
    match first {
        Some((_, e)) => Err(e),
        None => Ok(merged.unwrap_or_else(make)),
    }
}
