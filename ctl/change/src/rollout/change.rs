//! `rollout pause|resume|restart`.

use super::Common;
use crate::flags::{DryRun, error, write};
use crate::output::Printer;
use crate::set::difference;
use crate::target::{Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Error, Globals, PatchType};
use serde_json::{Value, json};

/// Flags of the three verbs.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub common: Common,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-rollout")]
    pub field_manager: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Which of the three runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Pause,
    Resume,
    Restart,
}

impl Verb {
    fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Restart => "restarted",
        }
    }
}

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The object after the verb. `now` is RFC 3339 in whole seconds.
fn changed(verb: Verb, object: &Value, now: &str) -> Result<Value, String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let paused = object["spec"]["paused"] == true;
    let mut after = object.clone();
    match (verb, kind) {
        (Verb::Pause, "Deployment") if paused => return Err("is already paused".into()),
        (Verb::Pause, "Deployment") => after["spec"]["paused"] = json!(true),
        (Verb::Resume, "Deployment") if !paused => return Err("is not paused".into()),
        (Verb::Resume, "Deployment") => {
            if let Some(spec) = after["spec"].as_object_mut() {
                spec.remove("paused");
            }
        }
        (Verb::Restart, "Deployment") if paused => {
            return Err("can't restart paused deployment (run rollout resume first)".into());
        }
        (Verb::Restart, "Deployment" | "DaemonSet" | "StatefulSet") => {
            let metadata = &mut after["spec"]["template"]["metadata"];
            if !metadata["annotations"].is_object() {
                metadata["annotations"] = json!({});
            }
            metadata["annotations"][RESTARTED_AT] = json!(now);
        }
        (verb, _) => {
            let doing = match verb {
                Verb::Pause => "pausing",
                Verb::Resume => "resuming",
                Verb::Restart => "restarting",
            };
            return Err(format!("{doing} is not supported"));
        }
    }
    Ok(after)
}

/// Runs one of the three.
pub async fn run(verb: Verb, flags: &Flags, globals: &Globals) -> Result<i32> {
    let printer = Printer::new(&flags.out, DryRun::None)?.typed().apart();
    let chosen = flags.common.select()?;
    let cluster = globals.connect().await?;
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        coxctl_kit::out::note(&format!("No resources found in {} namespace.", cluster.namespace));
        return Ok(0);
    }
    let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    each(found, async |target| {
        let after = changed(verb, &target.object, &now).map_err(|text| refused(&target, &text))?;
        let patch = difference(&target.object, &after)?;
        if patch == json!({}) {
            return Err(error(format!(
                "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
                target.name
            )));
        }
        let write = write(&flags.field_manager, DryRun::None, None);
        let (kind, how) = (&target.kind, PatchType::Strategic);
        let sent = cluster.patch(kind, target.ns(), &target.name, None, how, &patch, &write).await;
        let patched = sent.map_err(|e| Error::message(format!("failed to patch: {e}")))?;
        printer.done(&patched, verb.done())
    })
    .await
}

fn refused(target: &Target, text: &str) -> anyhow::Error {
    error(format!("{} {:?} {text}", target.kind.group_resource(), target.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let object = |paused: bool| json!({"kind": "Deployment", "spec": {"paused": paused, "template": {"metadata": {}}}});
        assert!(changed(Verb::Pause, &object(true), "t").is_err());
        assert_eq!(
            changed(Verb::Resume, &object(true), "t").map(|o| o["spec"].get("paused").is_none()),
            Ok(true)
        );
        assert!(changed(Verb::Restart, &object(true), "t").is_err());
        let restarted = changed(Verb::Restart, &object(false), "t").expect("restarts");
        assert_eq!(restarted["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT], json!("t"));
        assert!(changed(Verb::Restart, &json!({"kind": "ConfigMap"}), "t").is_err());
    }
}
