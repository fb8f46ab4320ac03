//! Phases as data: named steps in order, which can be run alone, skipped, and run again.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;

use crate::say;

/// What a phase does.
pub type Work<C> = for<'a> fn(&'a C) -> LocalBoxFuture<'a, Result<()>>;

/// One step of a command, or several under one name.
pub struct Phase<C: 'static> {
    /// Its name, as kubeadm's.
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    /// Its parts, in order.
    pub subs: &'static [Phase<C>],
    /// What it does itself.
    pub work: Option<Work<C>>,
    /// May run at the same time as its neighbours of which this is true as well.
    pub together: bool,
    /// Only runs when it is asked for by name.
    pub by_name: bool,
}

impl<C: 'static> Phase<C> {
    /// A phase of one step.
    pub const fn step(name: &'static str, about: &'static str, work: Work<C>) -> Self {
        Self { name, about, subs: &[], work: Some(work), together: false, by_name: false }
    }

    /// A phase of several parts.
    pub const fn group(name: &'static str, about: &'static str, subs: &'static [Phase<C>]) -> Self {
        Self { name, about, subs, work: None, together: false, by_name: false }
    }

    /// May run beside its neighbours.
    pub const fn together(mut self) -> Self {
        self.together = true;
        self
    }
}

/// A phase to run, with its full name.
pub struct Step<C: 'static> {
    /// `certs/apiserver`.
    pub name: String,
    work: Work<C>,
    together: bool,
}

/// All steps, or those of one phase (`["certs", "apiserver"]`; `all` means every part), without the skipped ones.
///
/// # Errors
/// When a name is not that of a phase.
pub fn select<C>(phases: &'static [Phase<C>], only: &[String], skip: &[String]) -> Result<Vec<Step<C>>> {
    for name in skip {
        find(phases, &name.split('/').map(str::to_string).collect::<Vec<_>>())
            .with_context(|| format!("invalid phase name: {name}"))?;
    }
    let mut steps = Vec::new();
    match only {
        [] => phases.iter().for_each(|p| flatten(p, "", &mut steps)),
        path => {
            let (prefix, phase) = find(phases, path)?;
            flatten(phase, &prefix, &mut steps);
        }
    }
    steps.retain(|s| !skip.iter().any(|k| s.name == *k || s.name.starts_with(&format!("{k}/"))));
    Ok(steps)
}

/// The phase at a path, and the names above it.
fn find<C>(phases: &'static [Phase<C>], path: &[String]) -> Result<(String, &'static Phase<C>)> {
    let (mut level, mut prefix, mut found) = (phases, String::new(), None::<&'static Phase<C>>);
    for word in path {
        if word == "all" && found.is_some_and(|f| !f.subs.is_empty()) {
            break;
        }
        if let Some(above) = found {
            prefix = format!("{prefix}{}/", above.name);
        }
        let alias = if word == "dns" { "coredns" } else { word.as_str() };
        match level.iter().find(|p| p.name == alias) {
            Some(phase) => (found, level) = (Some(phase), phase.subs),
            None => bail!("no phase is named {:?}; there are {}", path.join("/"), names(phases)),
        }
    }
    found.map(|f| (prefix, f)).context("no phase is named")
}

fn flatten<C>(phase: &'static Phase<C>, prefix: &str, into: &mut Vec<Step<C>>) {
    let name = format!("{prefix}{}", phase.name);
    if let Some(work) = phase.work {
        into.push(Step { name: name.clone(), work, together: phase.together });
    }
    phase.subs.iter().for_each(|s| flatten(s, &format!("{name}/"), into));
}

/// The names of all phases, for messages and help.
pub fn names<C>(phases: &'static [Phase<C>]) -> String {
    let mut steps = Vec::new();
    phases.iter().for_each(|p| flatten(p, "", &mut steps));
    steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Names and descriptions, one a line, as help shows them.
pub fn help<C>(phases: &'static [Phase<C>]) -> String {
    fn lines<C>(phase: &'static Phase<C>, depth: usize, out: &mut String) {
        let name = format!("{}{}{}", "  ".repeat(depth), if depth > 0 { "/" } else { "" }, phase.name);
        out.push_str(&format!("{name:<28}{}\n", phase.about));
        phase.subs.iter().for_each(|s| lines(s, depth + 1, out));
    }
    let mut out = String::new();
    phases.iter().for_each(|p| lines(p, 0, &mut out));
    out
}

/// Runs the steps in order, neighbours that may at the same time.
///
/// # Errors
/// The first error, with the phase's name.
pub async fn run<C>(command: &str, steps: &[Step<C>], context: &C) -> Result<()> {
    let mut rest = steps;
    while let Some(first) = rest.first() {
        let count = match first.together {
            true => rest.iter().take_while(|s| s.together).count(),
            false => 1,
        };
        let (now, later) = rest.split_at(count);
        let all = futures::future::join_all(now.iter().map(|s| one(command, s, context))).await;
        all.into_iter().collect::<Result<Vec<()>>>()?;
        rest = later;
    }
    Ok(())
}

async fn one<C>(command: &str, step: &Step<C>, context: &C) -> Result<()> {
    let begin = Instant::now();
    let result = (step.work)(context).await;
    say::took(command, &step.name, begin.elapsed());
    result.with_context(|| format!("phase {} failed", step.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use parking_lot::Mutex;

    type Log = Mutex<Vec<&'static str>>;

    fn note<'a>(log: &'a Log, word: &'static str) -> LocalBoxFuture<'a, Result<()>> {
        async move {
            log.lock().push(word);
            Ok(())
        }
        .boxed_local()
    }

    static PHASES: [Phase<Log>; 3] = [
        Phase::step("a", "", |l| note(l, "a")),
        Phase::group(
            "b",
            "",
            &[
                Phase::step("x", "", |l| note(l, "x")).together(),
                Phase::step("y", "", |l| note(l, "y")).together(),
            ],
        ),
        Phase::step("c", "", |_| async { bail!("no") }.boxed_local()),
    ];

    fn selected(only: &[&str], skip: &[&str]) -> String {
        let words = |w: &[&str]| w.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        match select(&PHASES, &words(only), &words(skip)) {
            Ok(steps) => steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn phases_are_chosen_by_name() {
        for (only, skip, want) in [
            (&[][..], &[][..], "a b/x b/y c"),
            (&["b"], &[], "b/x b/y"),
            (&["b", "all"], &[], "b/x b/y"),
            (&["b", "y"], &[], "b/y"),
            (&[], &["b", "a"], "c"),
            (&[], &["b/x"], "a b/y c"),
            (&["z"], &[], "no phase is named \"z\"; there are a, b/x, b/y, c"),
        ] {
            assert_eq!(selected(only, skip), want);
        }
        assert!(selected(&[], &["q"]).starts_with("invalid phase name: q"));
    }

    #[tokio::test]
    async fn a_failure_names_its_phase_and_ends_the_command() {
        let log = Log::default();
        let steps = select(&PHASES, &[], &[]).unwrap();
        let error = run("t", &steps, &log).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "phase c failed: no");
        assert_eq!(*log.lock(), ["a", "x", "y"]);
    }
}
