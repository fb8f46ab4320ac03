//! How simulations run: a history for each seed, and word of the seed whose history goes wrong.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::clock;

/// What is wrong with a history.
pub type Verdict = Result<(), String>;

/// Runs the histories of `usual` seeds, or of as many as `COXSWAIN_SEEDS` says, and says how many those were. The first
/// that goes wrong ends it and is named.
pub fn histories(usual: u64, history: impl Fn(u64) -> Verdict) -> usize {
    let seeds = seeds(usual);
    let count = seeds.clone().count();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| history(seed))) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => panic!("seed {seed}: {what}"),
            Err(panic) => {
                eprintln!("seed {seed}");
                resume_unwind(panic);
            }
        }
    }
    count
}

/// Whether one of so many histories goes wrong: a check that never does checks nothing.
pub fn caught(seeds: u64, history: impl Fn(u64) -> Verdict) -> bool {
    (0..seeds).any(|seed| history(seed).is_err())
}

/// Runs a history whose clock stands still unless it is moved.
pub fn paused<F: Future>(history: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(history)
}

/// A history in a world from its beginning to its end; one that goes wrong is told with the world's log.
pub fn lived<W>(
    world: W,
    log: impl Fn(&W) -> &[String],
    history: impl AsyncFnOnce(&Arc<Mutex<W>>) -> Verdict,
) -> Verdict {
    clock::reset();
    let world = Arc::new(Mutex::new(world));
    paused(history(&world)).map_err(|what| format!("{}\n{what}", log(&world.lock()).join("\n")))
}

/// The seeds a simulation runs: `usual` of them, or as many as `COXSWAIN_SEEDS` says (`3000`, or `5000..8000`).
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("COXSWAIN_SEEDS") else { return 0..usual };
    let number = |text: &str| text.parse().expect("COXSWAIN_SEEDS is a number, or two with .. between");
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&wanted),
    }
}
