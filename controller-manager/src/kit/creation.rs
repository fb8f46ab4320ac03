//! Pods are made under names chosen here. When the answer to a creation is lost the same is asked again, and the name
//! tells what happened: with a name that the server makes up there would be one pod too many.

use control::{Expectations, Key};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

use super::doubt::Doubts;
use super::write::{Answer, Failure};
use super::{Context, Write, Writer};

/// The same creation under a name of its own, from its `generateName`.
pub fn named(write: &Write) -> Write {
    let mut write = write.clone();
    let prefix = write.body.pointer("/metadata/generateName").and_then(Value::as_str).unwrap_or_default();
    write.name = machinery::names::generate(prefix);
    write.body["metadata"]["name"] = write.name.clone().into();
    write
}

/// Makes an object that has a name; nothing is answered if it turns out to have been made by a first try.
///
/// # Errors
/// The server's. Of one that is [`Failure::uncertain`] nobody knows whether it was done.
pub async fn create(writer: &Writer, write: &Write) -> Result<Option<Answer>, Failure> {
    match writer.send(write).await {
        Err(failure) if failure.uncertain() => match writer.send(write).await {
            Err(again) if again.already_exists() => Ok(None),
            other => other.map(Some),
        },
        other => other.map(Some),
    }
}

/// Makes a pod of an owner's, says so, and keeps account of what is still to be seen and what is in doubt.
///
/// # Errors
/// Of [`create`]. The owner has been told, unless nothing can be made because the namespace is going away.
pub async fn pod(
    context: &Context,
    owner: ObjectReference,
    key: &Key,
    write: &Write,
    (expected, doubts): (&Expectations<Key>, &Doubts<Key>),
) -> Result<(), Failure> {
    let Err(failure) = create(&context.writer, write).await else {
        let message = format!("Created pod: {}", write.name);
        context.recorder.normal(&owner, "SuccessfulCreate", message);
        return Ok(());
    };
    // One that may have been made after all is asked for before the next look.
    doubts.unmade(key, &write.name, &failure, expected);
    if !failure.namespace_terminating() {
        let message = format!("Error creating: {}", failure.message);
        context.recorder.warning(&owner, "FailedCreate", message);
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn names_are_chosen() {
        let mut pod = Pod::default();
        pod.metadata.generate_name = Some("web-".into());
        let write = Write::create(&pod);
        let (a, b) = (named(&write), named(&write));
        assert!(a.name.starts_with("web-") && a.name.len() == 9 && a.name != b.name);
        assert_eq!(
            (a.body["metadata"]["name"].as_str(), &write.name),
            (Some(a.name.as_str()), &String::new())
        );
    }
}
