//! When certificates end, and their renewal.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::authority::{Authority, Terms};
use crate::cluster::authority_base;
use crate::files::{Pair, read, write_file};
use crate::key::Key;
use crate::nodeconf::Current;
use crate::x509::{self, Seen};

/// Where a control plane's files are.
#[derive(Debug, Clone, PartialEq)]
pub struct Dirs {
    /// Certificates.
    pub pki: PathBuf,
    /// Kubeconfigs.
    pub kubeconfigs: PathBuf,
}

impl Default for Dirs {
    fn default() -> Self {
        Self {
            pki: coxctl_config::DEFAULT_CERTIFICATES_DIR.into(),
            kubeconfigs: coxctl_config::KUBERNETES_DIR.into(),
        }
    }
}

/// One certificate's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Expiry {
    /// kubeadm's name: `admin.conf`, `apiserver`, `etcd-ca`.
    pub name: String,
    /// Phase name of its authority; empty for authorities.
    pub authority: String,
    /// Is an authority itself.
    pub is_ca: bool,
    /// Not there.
    pub missing: bool,
    /// Start of its life, seconds since 1970.
    pub not_before: i64,
    /// End of its life, seconds since 1970.
    pub not_after: i64,
    /// Its authority's key is elsewhere, so it can't be renewed here.
    pub externally_managed: bool,
}

/// A certificate kubeadm knows by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// Its name in commands.
    pub name: &'static str,
    /// Phase name of its authority; empty for authorities.
    pub authority: &'static str,
    /// Where it is.
    pub place: Place,
    /// What it is for, as a phrase.
    pub about: &'static str,
}

/// Where a certificate is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// A pair of this base name in the directory of certificates.
    Pair(&'static str),
    /// Embedded in a kubeconfig of this name.
    Kubeconfig(&'static str),
}

const fn pair(name: &'static str, base: &'static str, authority: &'static str, about: &'static str) -> Known {
    Known { name, authority, place: Place::Pair(base), about }
}

const fn conf(name: &'static str, about: &'static str) -> Known {
    Known { name, authority: "ca", place: Place::Kubeconfig(name), about }
}

/// Not every cluster has it: while it is missing nothing is said of it.
pub const OPTIONAL: &str = "cloud-controller-manager.conf";

/// What `certs` lists and renews, in kubeadm's order, then the authorities.
pub const KNOWN: [Known; 15] = [
    conf(
        "admin.conf",
        "certificate embedded in the kubeconfig file for the admin to use and for kubeadm itself",
    ),
    pair("apiserver", "apiserver", "ca", "certificate for serving the Kubernetes API"),
    pair(
        "apiserver-etcd-client",
        "apiserver-etcd-client",
        "etcd-ca",
        "certificate the apiserver uses to access etcd",
    ),
    pair(
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        "ca",
        "certificate for the API server to connect to kubelet",
    ),
    conf(OPTIONAL, "certificate embedded in the kubeconfig file for the cloud controller manager to use"),
    conf(
        "controller-manager.conf",
        "certificate embedded in the kubeconfig file for the controller manager to use",
    ),
    pair(
        "etcd-healthcheck-client",
        "etcd/healthcheck-client",
        "etcd-ca",
        "certificate for liveness probes to healthcheck etcd",
    ),
    pair("etcd-peer", "etcd/peer", "etcd-ca", "certificate for etcd nodes to communicate with each other"),
    pair("etcd-server", "etcd/server", "etcd-ca", "certificate for serving etcd"),
    pair(
        "front-proxy-client",
        "front-proxy-client",
        "front-proxy-ca",
        "certificate for the front proxy client",
    ),
    conf("scheduler.conf", "certificate embedded in the kubeconfig file for the scheduler to use"),
    conf("super-admin.conf", "certificate embedded in the kubeconfig file for the super-admin"),
    pair("ca", "ca", "", "authority of the cluster"),
    pair("etcd-ca", "etcd/ca", "", "authority of etcd"),
    pair("front-proxy-ca", "front-proxy-ca", "", "authority of the front proxy"),
];

impl Known {
    /// The one of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|k| k.name == name)
    }

    /// Whether it is an authority, which nothing here renews.
    pub fn is_ca(&self) -> bool {
        self.authority.is_empty()
    }

    /// When it ends.
    ///
    /// # Errors
    /// A file that is there and holds no certificate.
    pub fn expiry(&self, dirs: &Dirs) -> Result<Expiry> {
        let seen = self.certificate(dirs)?.map(|pem| self.parse(&pem)).transpose()?;
        let base = if self.is_ca() { self.place_base() } else { authority_base(self.authority) };
        Ok(Expiry {
            name: self.name.into(),
            authority: self.authority.into(),
            is_ca: self.is_ca(),
            missing: seen.is_none(),
            not_before: seen.as_ref().map_or(0, |s| s.not_before),
            not_after: seen.as_ref().map_or(0, |s| s.not_after),
            externally_managed: !Pair::new(&dirs.pki, base).key.exists(),
        })
    }

    fn place_base(&self) -> &'static str {
        match self.place {
            Place::Pair(base) => base,
            Place::Kubeconfig(_) => "ca",
        }
    }

    fn parse(&self, pem: &str) -> Result<Seen> {
        x509::read(pem).with_context(|| format!("the certificate {}", self.name))
    }

    /// The certificate, PEM; none when its file is not there.
    fn certificate(&self, dirs: &Dirs) -> Result<Option<String>> {
        match self.place {
            Place::Pair(base) => {
                let path = Pair::new(&dirs.pki, base).crt;
                path.exists().then(|| read(&path)).transpose()
            }
            Place::Kubeconfig(file) => {
                let path = dirs.kubeconfigs.join(file);
                if !path.exists() {
                    return Ok(None);
                }
                let pem = Current::load(&path)?.certificate()?;
                pem.map(Some).with_context(|| format!("{} holds no client certificate", path.display()))
            }
        }
    }

    /// Renews it: a new key; name, groups, alternative names and usages as they were. Without `terms` its life and the
    /// kind of its key are as they were too. False when its authority's key is not here.
    ///
    /// # Errors
    /// A missing or unreadable file, a file that can't be written; what was there is unharmed then.
    pub fn renew(&self, dirs: &Dirs, terms: Option<&Terms>) -> Result<bool> {
        anyhow::ensure!(!self.is_ca(), "{} is an authority; those are not renewed", self.name);
        if let Place::Pair(base) = self.place {
            Pair::new(&dirs.pki, base).settle()?;
        }
        let pem = self.certificate(dirs)?.with_context(|| format!("{} is missing", self.about))?;
        let old = self.parse(&pem)?;
        let authority = Authority::load(&dirs.pki, authority_base(self.authority))?
            .with_context(|| format!("the certificate of the authority {} is missing", self.authority))?;
        if !authority.can_sign() {
            return Ok(false);
        }
        let terms = terms.copied().unwrap_or_else(|| self.terms_of(&old, dirs));
        let (crt, key) = authority.issue_on(&old.identity, &terms)?;
        self.put(dirs, &crt, &key)?;
        Ok(true)
    }

    /// The terms a certificate was made on.
    fn terms_of(&self, old: &Seen, dirs: &Dirs) -> Terms {
        let key = match self.place {
            Place::Pair(base) => read(&Pair::new(&dirs.pki, base).key).ok(),
            Place::Kubeconfig(file) => {
                Current::load(&dirs.kubeconfigs.join(file)).ok().and_then(|c| c.key().ok().flatten())
            }
        };
        let algorithm = key.and_then(|pem| Key::from_pem(&pem).ok()).map(|k| k.algorithm());
        let leaf = (old.not_after - old.made()).max(60);
        Terms { leaf, algorithm: algorithm.unwrap_or_default(), ..Terms::default() }
    }

    fn put(&self, dirs: &Dirs, crt: &str, key: &str) -> Result<()> {
        match self.place {
            Place::Pair(base) => Pair::new(&dirs.pki, base).write(crt, key),
            Place::Kubeconfig(file) => {
                let path = dirs.kubeconfigs.join(file);
                let config = Current::load(&path)?;
                anyhow::ensure!(
                    config.is_embedded(),
                    "{} refers to a certificate in another file; renew that one",
                    path.display()
                );
                let text = serde_yaml::to_string(&config.with_credentials(crt, key))?;
                write_file(&path, text.as_bytes(), 0o600)
            }
        }
    }
}

/// Every certificate and kubeconfig of a control plane, kubeadm's order, then the authorities.
///
/// # Errors
/// A file that is there and holds no certificate.
pub fn expiry(dirs: &Dirs) -> Result<Vec<Expiry>> {
    let all: Result<Vec<Expiry>> = KNOWN.iter().map(|k| k.expiry(dirs)).collect();
    Ok(all?.into_iter().filter(|e| !(e.missing && e.name == OPTIONAL)).collect())
}

/// Renews one certificate or kubeconfig by kubeadm's name; see [`Known::renew`].
///
/// # Errors
/// An unknown name, and those of [`Known::renew`].
pub fn renew(dirs: &Dirs, name: &str, terms: Option<&Terms>) -> Result<bool> {
    let known = Known::of(name).with_context(|| {
        let names: Vec<&str> = KNOWN.iter().filter(|k| !k.is_ca()).map(|k| k.name).collect();
        format!("no certificate is named {name:?}; known are {} and all", names.join(", "))
    })?;
    known.renew(dirs, terms)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{cluster_certificates, cluster_kubeconfigs, ensure_all, ensure_kubeconfig, unrecorded};
    use coxctl_config::{ApiEndpoint, ClusterConfiguration, GoDuration, default_cluster};
    use std::path::Path;

    /// Files of a whole control plane whose leaves live so many seconds.
    pub fn control_plane(dir: &Path, seconds: i64) -> Dirs {
        let mut cluster = ClusterConfiguration {
            certificate_validity_period: Some(GoDuration::seconds(seconds)),
            ..Default::default()
        };
        default_cluster(&mut cluster);
        let dirs = Dirs { pki: dir.join("pki"), kubeconfigs: dir.to_path_buf() };
        let specs = cluster_certificates(&cluster, "cp-1", "172.30.0.2".parse().unwrap()).unwrap();
        ensure_all(&dirs.pki, &specs, &cluster, &mut unrecorded).unwrap();
        let local = ApiEndpoint { advertise_address: "172.30.0.2".into(), bind_port: 6443 };
        let cloud = crate::nodeconf::cloud_kubeconfig();
        for spec in cluster_kubeconfigs(&cluster, "cp-1", &local, true).into_iter().chain([cloud]) {
            ensure_kubeconfig(dir, &dirs.pki, &spec, &cluster, &mut unrecorded).unwrap();
        }
        dirs
    }

    #[test]
    fn all_certificates_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        std::fs::remove_file(dirs.pki.join("etcd/ca.key")).unwrap();
        std::fs::remove_file(dir.path().join("super-admin.conf")).unwrap();
        let all = expiry(&dirs).unwrap();
        assert_eq!(all.len(), 15);
        let missing: Vec<&str> = all.iter().filter(|e| e.missing).map(|e| e.name.as_str()).collect();
        assert_eq!(missing, ["super-admin.conf"]);
        let external: Vec<&str> =
            all.iter().filter(|e| e.externally_managed).map(|e| e.name.as_str()).collect();
        assert_eq!(
            external,
            ["apiserver-etcd-client", "etcd-healthcheck-client", "etcd-peer", "etcd-server", "etcd-ca"]
        );
        for e in all.iter().filter(|e| !e.missing && !e.is_ca) {
            assert_eq!(e.not_after - x509::made(e.not_before, e.not_after), 3600, "{}", e.name);
        }
    }

    #[test]
    fn renewal_copies_all_but_key_and_dates() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        for known in KNOWN.iter().filter(|k| !k.is_ca()) {
            let before = x509::read(&known.certificate(&dirs).unwrap().unwrap()).unwrap();
            assert!(known.renew(&dirs, None).unwrap());
            let pem = known.certificate(&dirs).unwrap().unwrap();
            let after = x509::read(&pem).unwrap();
            assert_eq!(after.identity, before.identity, "{}", known.name);
            assert_ne!(after.spki, before.spki, "{}", known.name);
            assert_eq!(after.not_after - after.not_before, before.not_after - before.not_before);
            let ca = Authority::load(&dirs.pki, authority_base(known.authority)).unwrap().unwrap();
            assert!(x509::signed_by(&pem, &ca.cert_pem));
        }
        let longer = Terms { leaf: 7200, ..Terms::default() };
        renew(&dirs, "scheduler.conf", Some(&longer)).unwrap();
        let seen = Known::of("scheduler.conf").unwrap().expiry(&dirs).unwrap();
        assert_eq!(seen.not_after - seen.not_before, 7500);
    }

    #[test]
    fn what_can_not_be_renewed_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        std::fs::remove_file(dirs.pki.join("ca.key")).unwrap();
        let before = read(&dirs.pki.join("apiserver.crt")).unwrap();
        assert!(!renew(&dirs, "apiserver", None).unwrap());
        assert!(!renew(&dirs, "admin.conf", None).unwrap());
        assert_eq!(read(&dirs.pki.join("apiserver.crt")).unwrap(), before);
        assert!(renew(&dirs, "etcd-server", None).unwrap());
        std::fs::remove_file(dirs.pki.join("etcd/peer.crt")).unwrap();
        for (name, want) in
            [("etcd-peer", "is missing"), ("nope", "no certificate is named"), ("ca", "not renewed")]
        {
            let error = renew(&dirs, name, None).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
