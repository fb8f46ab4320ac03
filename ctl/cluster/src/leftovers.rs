//! Files of another cluster that lie where ours will: found before anything is made.

use std::path::Path;

use coxctl_machine::Made;
use coxctl_machine::preflight::{Check, Level};
use coxctl_pki::{CertSpec, KubeconfigSpec};

use crate::paths;

/// Certificates and kubeconfigs that somebody else made here and that do not fit.
pub fn find(
    made: &Made,
    pki: &Path,
    certificates: &[CertSpec],
    kubeconfigs: &[KubeconfigSpec],
) -> Vec<Check> {
    let dir = Path::new(paths::KUBERNETES);
    let mut checks = Vec::new();
    for spec in certificates {
        let path = pki.join(spec.base).with_extension("crt");
        if !made.contains(&path) {
            checks.extend(coxctl_pki::fits(pki, spec).err().map(|e| check(&path, &e)));
        }
    }
    for spec in kubeconfigs {
        let path = dir.join(spec.file);
        if !made.contains(&path) {
            checks.extend(coxctl_pki::kubeconfig_fits(dir, pki, spec).err().map(|e| check(&path, &e)));
        }
    }
    checks
}

fn check(path: &Path, error: &anyhow::Error) -> Check {
    Check {
        name: format!("FileContent-{}", path.display().to_string().replace('/', "-")),
        level: Level::Error,
        message: format!("{error:#}"),
        cure: "`kubeadm reset` takes back what kubeadm made here".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_named_by_its_file() {
        let found = check(Path::new("/etc/kubernetes/admin.conf"), &anyhow::anyhow!("left"));
        assert_eq!(
            (found.name.as_str(), found.level),
            ("FileContent--etc-kubernetes-admin.conf", Level::Error)
        );
    }
}
