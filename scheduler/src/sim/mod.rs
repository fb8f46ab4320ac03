//! Simulated histories of whole schedulers: the real loop, queue, state and plugins against an API server whose requests are late,
//! lost or refused and whose watches lag, while pods and nodes come and go, schedulers are killed and others take over. All of it is
//! drawn from one seed, which a failure prints; time is virtual. Every choice is held against [`rules`] and what the scheduler had
//! been told by then. `COXSWAIN_SEEDS=5000` runs so many, `COXSWAIN_SEEDS=300..400` these, `COXSWAIN_SEED=7` this one.

mod chance;
mod ending;
mod history;
mod objects;
mod process;
mod rules;
mod server;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use history::History;

/// So many histories in every run of the tests.
const SEEDS: u64 = 12;
/// A history that takes longer than this, by a real clock, never ends.
const ENDLESS: Duration = Duration::from_secs(30);
/// From so many histories on, all that they are to contain must have come up.
const MANY: u64 = 500;
/// What that is.
const CONTENTS: [&str; 40] = [
    "a 409",
    "a 429",
    "a 500 or 503",
    "a bound pod is bound again",
    "a binding comes late",
    "a budget is broken for want of another way",
    "a choice is taken back",
    "a clock jumps",
    "a gate opens",
    "a lost answer",
    "a lost request",
    "a node comes",
    "a node comes back",
    "a node goes",
    "a node has less room",
    "a node has more room",
    "a pod asks for less",
    "a pod is gone when it is bound",
    "a pod learns to tolerate",
    "a request on its way for very long",
    "a watch breaks and lists anew",
    "cordoned, or no more",
    "ended",
    "ended in good order",
    "killed",
    "killed mid-bind",
    "killed mid-preemption",
    "killed mid-word",
    "labels of a node change",
    "nominated",
    "pushed away",
    "pushed away while being bound",
    "refused",
    "refused, then placed",
    "tainted, or no more",
    "two leaders",
    "two schedulers",
    "a node is kept at a takeover",
    "a guarded pod is pushed away",
    "a pod is pushed away by a late request",
];

/// What came of a history.
#[derive(Debug, Default, PartialEq)]
struct Tale {
    faults: Vec<String>,
    diary: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

fn run(seed: u64) -> Tale {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let history = runtime.block_on(async {
        let mut history = History::new(seed);
        history.play().await;
        history
    });
    let mut world = history.world.lock();
    Tale {
        faults: std::mem::take(&mut world.faults),
        diary: std::mem::take(&mut world.diary),
        counts: std::mem::take(&mut world.counts),
    }
}

/// Runs histories one after the other in a thread of its own, so that one that never ends can be left behind.
fn run_all(seeds: Range<u64>, mut each: impl FnMut(u64, Option<Tale>)) {
    let mut next = seeds.start;
    while next < seeds.end {
        let (sender, tales) = mpsc::channel();
        let rest = next..seeds.end;
        std::thread::spawn(move || rest.into_iter().try_for_each(|seed| sender.send(run(seed))));
        while next < seeds.end {
            let tale = tales.recv_timeout(ENDLESS).ok();
            let gone = tale.is_none();
            each(next, tale);
            next += 1;
            if gone {
                break;
            }
        }
    }
}

fn seeds() -> Range<u64> {
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    if let Ok(seed) = text("COXSWAIN_SEED").parse::<u64>() {
        return seed..seed + 1;
    }
    let seeds = text("COXSWAIN_SEEDS");
    let (first, last) = seeds.split_once("..").unwrap_or(("0", &seeds));
    first.parse().unwrap_or(0)..last.parse().unwrap_or(SEEDS)
}

#[test]
fn histories() {
    let seeds = seeds();
    let (mut bad, mut counts) = (Vec::new(), BTreeMap::new());
    run_all(seeds.clone(), |seed, tale| {
        let Some(tale) = tale else {
            eprintln!("seed {seed} never ends");
            return bad.push(format!("seed {seed} never ends, or panics"));
        };
        tale.counts.into_iter().for_each(|(what, n)| *counts.entry(what).or_insert(0) += n);
        if !tale.faults.is_empty() {
            eprintln!("seed {seed} goes wrong");
            let story = if bad.is_empty() { tale.diary.join("\n") } else { String::new() };
            bad.push(format!("{story}\nseed {seed}: {:#?}", tale.faults));
        }
    });
    let number = seeds.end - seeds.start;
    assert!(bad.is_empty(), "{} of {number} histories went wrong:\n{}", bad.len(), bad.join("\n"));
    eprintln!("{number} histories: {counts:#?}");
    let missing: Vec<_> = CONTENTS.iter().filter(|c| number >= MANY && !counts.contains_key(*c)).collect();
    assert!(missing.is_empty(), "histories lack {missing:?}");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    assert_eq!(run(7), run(7));
}
