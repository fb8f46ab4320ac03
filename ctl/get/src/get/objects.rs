//! Objects in the format `-o` names: one alone, several as a List.

use coxctl_kit::pick::listing;
use coxctl_kit::print::{Printer, list_of, sort};
use coxctl_kit::{Cluster, Error, Output, Result, Wanted};
use serde_json::Value;

use super::{GetArgs, target};

/// Prints what is wanted in a machine's format.
pub async fn run(
    args: &GetArgs,
    cluster: &Cluster,
    output: Output,
    wanted: Vec<Wanted>,
    mut errors: Vec<Error>,
) -> Result<i32> {
    let single = matches!(wanted.as_slice(), [Wanted::Named { .. } | Wanted::Given { .. }]);
    let mut objects = Vec::new();
    for one in &wanted {
        match fetch(args, cluster, one).await {
            Ok(found) => objects.extend(found),
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) if single => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    if objects.is_empty() && args.ignore_not_found {
        return if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) };
    }
    let object = match (single, objects.len()) {
        (true, 1) => objects.remove(0),
        _ => {
            if let Some(field) = args.sort_by.as_ref().filter(|_| !objects.is_empty()) {
                sort::by_field(&mut objects, field, |object| object)?;
            }
            list_of(objects)
        }
    };
    Printer::new(output, args.print.show_managed_fields)
        .without_headers(args.no_headers)
        .print(&object, None)?;
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) }
}

async fn fetch(args: &GetArgs, cluster: &Cluster, wanted: &Wanted) -> Result<Vec<Value>> {
    let (kind, namespace, name) = target(wanted);
    match name {
        None => {
            let options = args.list_options();
            cluster.items(kind, namespace, &options).await.map_err(|error| listing(error, kind, &options))
        }
        Some(name) => match cluster.get(kind, namespace, name, args.subresource.as_deref()).await {
            Ok(object) => Ok(vec![object]),
            Err(error) => Err(cluster.missing(error, namespace).await),
        },
    }
}
