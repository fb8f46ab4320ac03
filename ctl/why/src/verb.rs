//! The command line.

use clap::{Args, ValueEnum};
use coxctl_kit::{Cluster, Error, Globals, Item, Pick, Result, pick};
use jiff::Timestamp;
use serde_json::Value;

use crate::case::Case;
use crate::facts::{self, Facts};
use crate::finding::{Finding, Mood, Reason};
use crate::subjects::{self, SUBJECTS, Subject};
use crate::{gather, print, words};

/// How the answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Json,
}

/// The flags of `why`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  # Why is this pod not running, and what would help?
  coxctl why pod/web-1

  # Why does this rollout not go on?
  coxctl why deployment/web

  # What is not well in this namespace, and in all of them?
  coxctl why
  coxctl why -A")]
pub struct WhyArgs {
    /// TYPE NAME... or TYPE/NAME...; without one, everything that is not well
    pub words: Vec<String>,
    /// Look at all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// Output format
    #[arg(short = 'o', long, value_enum)]
    pub output: Option<Form>,
}

/// One object and what there is to say about it.
pub struct Answer {
    /// `pod/web-1`.
    pub object: String,
    /// Empty outside namespaces.
    pub namespace: String,
    pub finding: Finding,
}

/// Says why; the exit code.
///
/// # Errors
/// Where an object or the server can't be had.
pub async fn run(args: &WhyArgs, globals: &Globals) -> anyhow::Result<i32> {
    let cluster = globals.connect().await?;
    let named = args.words.iter().any(|word| word.contains('/')) || args.words.len() > 1;
    if !named {
        return Ok(survey(&cluster, args).await?);
    }
    let pick = Pick { words: args.words.clone(), all_namespaces: args.all_namespaces, ..Pick::default() };
    let picked = pick.items(&cluster, true).await?;
    let now = Timestamp::now();
    let mut answers = Vec::new();
    for item in &picked.items {
        answers.extend(answer(&cluster, item, now).await);
    }
    print::each(&answers, args.output.is_some(), picked.single);
    if picked.errors.is_empty() { Ok(0) } else { Err(Error::many(picked.errors).into()) }
}

async fn answer(cluster: &Cluster, item: &Item, now: Timestamp) -> Option<Answer> {
    let mut object = item.object.clone()?;
    if let Some(map) = object.as_object_mut() {
        map.insert("kind".into(), item.kind.kind.clone().into());
    }
    let subject = subjects::of(&item.kind.kind, &item.kind.group);
    let facts = gather::one(cluster, subject, &item.kind.kind, &object).await;
    let case = Case { facts: &facts, object: &object, now };
    let mut answer = tell(&case, subject);
    answer.finding.reasons.extend(unread(&facts));
    Some(answer)
}

fn tell(case: &Case<'_>, subject: &Subject) -> Answer {
    Answer {
        object: format!("{}/{}", case.kind().to_lowercase(), case.name()),
        namespace: case.namespace().into(),
        finding: (subject.explain)(case),
    }
}

/// What could not be read, and so was not thought of.
fn unread(facts: &Facts) -> Vec<Reason> {
    let told = facts.refused().iter().map(|(kind, why)| {
        Reason::new(
            "unread",
            format!("{kind} objects could not be read, so this may not be all: {}", words::message(why)),
        )
    });
    told.collect()
}

/// Everything that is not well, one line each.
async fn survey(cluster: &Cluster, args: &WhyArgs) -> Result<i32> {
    let kinds = match args.words.first() {
        Some(types) => pick::kinds(cluster, types).await?.into_iter().map(|kind| kind.kind).collect(),
        None => Vec::new(),
    };
    let wide = |kind: &String| matches!(kind.as_str(), "Node" | "Namespace");
    let all = args.all_namespaces || kinds.iter().any(wide);
    let namespace = if all { String::new() } else { cluster.namespace.clone() };
    let facts = gather::everything(cluster, &namespace).await;
    let judged = judge(&facts, &namespace, &kinds, Timestamp::now());
    print::survey(&judged, &namespace, args.output.is_some(), &unread(&facts));
    Ok(0)
}

/// What a look at many objects came to.
pub struct Judged {
    /// How many objects of each kind were looked at.
    pub counts: Vec<(&'static str, usize)>,
    /// Those that are not well, the worst first.
    pub unwell: Vec<Answer>,
}

/// Looks at all objects; one whose controller is not well either is told with that.
pub fn judge(facts: &Facts, namespace: &str, kinds: &[String], now: Timestamp) -> Judged {
    let mut judged = Judged { counts: Vec::new(), unwell: Vec::new() };
    let mut ill: Vec<String> = Vec::new();
    for subject in
        SUBJECTS.iter().filter(|subject| kinds.is_empty() || kinds.iter().any(|kind| kind == subject.kind))
    {
        let wide = matches!(subject.kind, "Node" | "Namespace");
        let here = |object: &&Value| {
            if wide {
                namespace.is_empty()
            } else {
                namespace.is_empty() || facts::namespace(object) == namespace
            }
        };
        let mut count = 0;
        for object in facts.all(subject.kind).filter(here) {
            count += 1;
            let answer = tell(&Case { facts, object, now }, subject);
            if answer.finding.mood == Mood::Well {
                continue;
            }
            let told = owner(object).is_some_and(|owner| ill.contains(&owner));
            ill.push(coxctl_kit::dig::text(object, "metadata.uid").to_string());
            if !told {
                judged.unwell.push(answer);
            }
        }
        if count > 0 {
            judged.counts.push((subject.kind, count));
        }
    }
    judged.unwell.sort_by_key(|answer| std::cmp::Reverse(answer.finding.mood));
    judged
}

fn owner(object: &Value) -> Option<String> {
    coxctl_kit::dig::controller(object).map(|owner| coxctl_kit::dig::text(owner, "uid").to_string())
}
