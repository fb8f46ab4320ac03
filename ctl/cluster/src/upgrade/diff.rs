//! `upgrade diff`: what an upgrade would change of this machine's daemons, as kubeadm's manifests side by side.

use std::path::{Path, PathBuf};

use anyhow::Result;
use coxctl_config::ClusterConfiguration;
use coxctl_machine::{Daemon, Options, Services, bundle, paths as places};

use super::args::{UpgradeArgs, target};
use super::{cluster, steps};
use crate::local::Local;
use crate::{api, patches, paths, say, unified};

/// Lines around each change when nothing is said.
const CONTEXT: usize = 3;

/// Prints the differences; nothing is changed.
pub async fn run(args: &UpgradeArgs) -> Result<()> {
    say::verbosity(args.v);
    let local = Local::read()?;
    let bundle = args.bundle.as_deref().map(bundle::open).transpose()?;
    let to = target(args, bundle.as_ref())?;
    let client = api::client(&args.kubeconfig(), None).await?;
    let configuration = cluster::configuration_of(&client, &local).await;
    let patches = patches::given_or_kept(args.patches().as_ref());
    let services = coxctl_machine::services(&Options::default())?;
    let context = args.context_lines.unwrap_or(CONTEXT);
    print!("{}", daemons(services.as_ref(), &configuration, &local, patches.as_ref(), &to, context)?);
    if let Some(document) = cluster::kubelet_config(&client, &local, patches.as_ref()).await? {
        let old = std::fs::read_to_string(paths::KUBELET_CONFIG).unwrap_or_default();
        let new = serde_yaml::to_string(&document)?;
        print!("{}", unified::diff(paths::KUBELET_CONFIG, "new configuration", &old, &new, context));
    }
    Ok(())
}

fn daemons(
    services: &dyn Services,
    cluster: &ClusterConfiguration,
    local: &Local,
    patches: Option<&coxctl_config::Patches>,
    to: &str,
    context: usize,
) -> Result<String> {
    let from = bundle::current();
    let mut out = String::new();
    for mut new in steps::daemons(services, cluster, local, patches)? {
        let Some(mut old) = services.installed(&new.name)? else { continue };
        old.program = placed(&old.program, from.as_deref());
        new.program = Path::new(places::VERSIONS).join(to).join(new.program);
        let name = |version: &str| format!("{} ({version})", new.name);
        let (before, after) = (name(from.as_deref().unwrap_or("unknown")), name(to));
        out.push_str(&unified::diff(&before, &after, &text(&old)?, &text(&new)?, context));
    }
    Ok(out)
}

/// The program in use as it is when another version is turned to.
fn placed(program: &Path, version: Option<&str>) -> PathBuf {
    match (program.strip_prefix(places::CURRENT), version) {
        (Ok(name), Some(version)) => Path::new(places::VERSIONS).join(version).join(name),
        _ => program.to_path_buf(),
    }
}

fn text(daemon: &Daemon) -> Result<String> {
    Ok(serde_yaml::to_string(&patches::manifest(daemon))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_in_use_is_named() {
        let current = Path::new("/usr/local/lib/coxswain/current/kubelet");
        assert_eq!(placed(current, Some("1")), Path::new("/usr/local/lib/coxswain/versions/1/kubelet"));
        assert_eq!(placed(Path::new("/opt/kubelet"), Some("1")), Path::new("/opt/kubelet"));
        assert_eq!(placed(current, None), current);
    }
}
