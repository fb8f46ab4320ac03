//! Looking up what may stand at the cursor.

use clap::{Args, FromArgMatches};
use coxctl_kit::{Cluster, Globals};

use crate::flags::Source;
use crate::line::Line;
use crate::words::Subject;
use crate::{Answer, Directive, explain, local, objects, pods};

/// How long the server may take for one answer.
const REQUEST: &str = "3s";

/// The candidates for a flag's value.
pub async fn value(line: &Line, source: Source) -> Answer {
    let globals = globals(line);
    match source {
        Source::Words(words) => Answer::words(words),
        Source::Extensions(endings) => {
            Answer::values(endings.iter().copied()).directed(Directive::EXTENSIONS)
        }
        Source::Directories => Answer::default().directed(Directive::DIRECTORIES),
        Source::Contexts => local::contexts(&globals),
        Source::Clusters => local::clusters(&globals),
        Source::Users => local::users(&globals),
        Source::Labs => local::labs(),
        Source::Names(kind) => match connect(&globals).await {
            Some(cluster) => Answer::values(objects::names(&cluster, kind).await),
            None => Answer::nothing(),
        },
        Source::Typed(kind) => match connect(&globals).await {
            Some(cluster) => Answer::values(objects::typed(&cluster, kind).await),
            None => Answer::nothing(),
        },
        Source::Containers => containers(line, &globals).await,
    }
}

async fn containers(line: &Line, globals: &Globals) -> Answer {
    // `set` names its object as TYPE NAME or TYPE/NAME, the others as POD or TYPE/NAME.
    let named = match (line.path.first().map(String::as_str), line.words.as_slice()) {
        (Some("set"), [kind, name, ..]) if !kind.contains('/') => format!("{kind}/{name}"),
        (_, [name, ..]) => name.clone(),
        _ => return Answer::nothing(),
    };
    match connect(globals).await {
        Some(cluster) => Answer::values(pods::containers(&cluster, &named).await),
        None => Answer::nothing(),
    }
}

/// The candidates for an argument.
pub async fn word(line: &Line, subject: Subject) -> Answer {
    let globals = globals(line);
    match subject {
        Subject::Nothing => return Answer::nothing(),
        Subject::Choice(words) => return Answer::words(words),
        Subject::Context => return local::contexts(&globals),
        Subject::Cluster => return local::clusters(&globals),
        Subject::User => return local::users(&globals),
        Subject::LabNode => return local::lab_nodes(line.value("name")),
        Subject::Name(_) if !line.words.is_empty() => return Answer::nothing(),
        Subject::Permission if line.words.is_empty() => {
            return Answer::values(coxctl_kit::rbac::VERBS.iter().copied());
        }
        Subject::Copy if pods::is_path(line) => return Answer::default().directed(Directive::NO_SPACE),
        _ => {}
    }
    match connect(&globals).await {
        Some(cluster) => live(&cluster, line, subject).await,
        None => Answer::nothing(),
    }
}

async fn live(cluster: &Cluster, line: &Line, subject: Subject) -> Answer {
    let (words, prefix) = (line.words.as_slice(), line.prefix.as_str());
    match subject {
        Subject::Objects { offered, many } => objects::named(cluster, offered, many, words, prefix).await,
        Subject::Name(kind) | Subject::Names(kind) => {
            let names = objects::names(cluster, kind).await;
            Answer::values(names.into_iter().filter(|name| !words.contains(name)))
        }
        Subject::Pod(then) => pods::pod(cluster, then, words, prefix).await,
        Subject::Copy => pods::copy(cluster, prefix).await,
        Subject::Fields => explain::fields(cluster, prefix).await,
        Subject::Permission if words.len() == 1 => Answer::values(objects::kinds(cluster).await),
        _ => Answer::nothing(),
    }
}

/// The cluster the line is about; none where none can be told.
async fn connect(globals: &Globals) -> Option<Cluster> {
    globals.connect().await.ok()
}

/// The flags about the cluster, as far as they are on the line.
fn globals(line: &Line) -> Globals {
    let command = Globals::augment_args(clap::Command::new("coxctl"));
    let known: Vec<String> =
        command.get_arguments().filter_map(|arg| Some(arg.get_long()?.to_string())).collect();
    let given = line.given.iter().filter(|(name, _)| known.contains(name));
    let words = given.map(|(name, value)| match value.is_empty() {
        // On-or-off flags stand without a value.
        true if name.contains("skip") || name.contains("disable") || name.contains("warnings") => {
            format!("--{name}")
        }
        _ => format!("--{name}={value}"),
    });
    let words = std::iter::once("coxctl".to_string()).chain(words);
    let matches = command.args_override_self(true).try_get_matches_from(words);
    let found = matches.ok().and_then(|matches| Globals::from_arg_matches(&matches).ok());
    Globals { request_timeout: REQUEST.into(), ..found.unwrap_or_default() }
}
