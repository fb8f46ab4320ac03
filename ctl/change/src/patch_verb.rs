//! `patch`.

use crate::flags::{DryRun, DryRunFlag, error, write};
use crate::output::Printer;
use crate::set::NOTHING_NAMED;
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, FileArgs, Globals, PatchType};
use serde_json::Value;

/// Flags of `patch`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-patch")]
    pub field_manager: String,
    /// If true, patch will operate on the content of the file, not the server-side resource.
    #[arg(long)]
    pub local: bool,
    /// The patch to be applied to the resource JSON file.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub patch: String,
    /// A file containing a patch to be applied to the resource.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub patch_file: String,
    /// If specified, patch will operate on the subresource of the requested object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subresource: String,
    /// The type of patch being provided; one of [json merge strategic].
    #[arg(long = "type", default_value = "strategic")]
    pub kind: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

impl Flags {
    fn how(&self) -> Result<PatchType> {
        match self.kind.to_lowercase().as_str() {
            "json" => Ok(PatchType::Json),
            "merge" => Ok(PatchType::Merge),
            "strategic" => Ok(PatchType::Strategic),
            _ => Err(error(format!("--type must be one of [json merge strategic], not {:?}", self.kind))),
        }
    }

    fn check(&self) -> Result<()> {
        if !self.patch.is_empty() && !self.patch_file.is_empty() {
            return Err(error("cannot specify --patch and --patch-file together"));
        }
        if self.patch.is_empty() && self.patch_file.is_empty() {
            return Err(error("must specify --patch or --patch-file containing the contents of the patch"));
        }
        if self.local && self.args.len() > 1 {
            return Err(error("cannot specify --local and server resources"));
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        if self.patch_file.is_empty() {
            return Ok(self.patch.clone());
        }
        let bytes = std::fs::read(&self.patch_file).map_err(|e| {
            error(format!(
                "unable to read patch file: open {}: {}",
                self.patch_file,
                coxctl_kit::files::os_text(&e)
            ))
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads a patch written as JSON or YAML.
fn parse(text: &str) -> Result<Value> {
    let yaml: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|e| error(format!("unable to parse {text:?}: yaml: {e}")))?;
    coxctl_kit::files::to_json(yaml).map_err(|e| error(format!("unable to parse {text:?}: {e}")))
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, DryRun::None)?.apart();
    let how = flags.how()?;
    flags.check()?;
    let patch = parse(&flags.text()?)?;
    let cluster = globals.connect().await?;
    let chosen = Select {
        args: &flags.args,
        files: Some(&flags.files),
        local: flags.local,
        as_given: !flags.local,
        nothing: Some(NOTHING_NAMED.into()),
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    each(found, async |target| one(flags, &cluster, &printer, dry, how, &patch, target).await).await
}

async fn one(
    flags: &Flags,
    cluster: &Cluster,
    printer: &Printer,
    dry: DryRun,
    how: PatchType,
    patch: &Value,
    target: Target,
) -> Result<()> {
    let sub = Some(flags.subresource.as_str()).filter(|s| !s.is_empty());
    let before = match flags.local {
        true => target.object.clone(),
        false => cluster.get(&target.kind, target.ns(), &target.name, sub).await?,
    };
    let after = if flags.local || dry == DryRun::Client {
        here(&before, how, patch)?
    } else {
        let write = write(&flags.field_manager, dry, None);
        cluster.patch(&target.kind, target.ns(), &target.name, sub, how, patch, &write).await?
    };
    let same = bare(&before) == bare(&after);
    printer.done(&after, if same { "patched (no change)" } else { "patched" })
}

/// Who touched an object when does not count as a change.
fn bare(object: &Value) -> Value {
    let mut out = object.clone();
    coxctl_kit::print::hide_managed_fields(&mut out);
    out
}

/// Patches without the server.
fn here(before: &Value, how: PatchType, patch: &Value) -> Result<Value> {
    let patched = match (how, crate::typed::of(before)) {
        (PatchType::Json, _) => patch::json_patch(before, patch),
        (PatchType::Strategic, Some(ty)) => patch::strategic::apply(before, patch, ty),
        (PatchType::Strategic, None) => {
            return Err(error(format!(
                "strategic merge patch is not supported for {}.{}",
                machinery::meta::api_version(before),
                machinery::meta::kind(before)
            )));
        }
        _ => Ok(patch::merge_patch(before, patch)),
    };
    patched.map_err(|e| error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_here() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "1"}]}});
        let patch = parse("spec:\n  containers:\n  - name: a\n    image: '2'\n").expect("parses");
        let strategic = here(&pod, PatchType::Strategic, &patch).expect("patches");
        assert_eq!(strategic["spec"]["containers"], json!([{"name": "a", "image": "2"}]));
        let json = here(&pod, PatchType::Json, &json!([{"op": "remove", "path": "/spec"}])).expect("patches");
        assert!(json.get("spec").is_none());
        assert!(here(&json!({"apiVersion": "x/v1", "kind": "X"}), PatchType::Strategic, &json!({})).is_err());
    }
}
