//! Image archives into every node's containerd.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::spec::{Lab, NodeSpec, Spec};

/// The namespace of containerd that CRI looks in.
const NAMESPACE: &str = "k8s.io";
/// How long a starting containerd is waited for.
const START_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(30);

/// Waits until a node's containerd takes connections: nodes have only just been switched on, and on a busy machine that
/// takes its time.
///
/// # Errors
/// When it does not within [`START_LIMIT`].
pub fn wait_for_runtime(lab: &Lab, node: &NodeSpec) -> Result<()> {
    let end = Instant::now() + START_LIMIT;
    while let Err(error) = UnixStream::connect(lab.containerd_socket(node)) {
        if Instant::now() > end {
            return Err(error).with_context(|| {
                format!("containerd of {} did not start within {} s", node.name, START_LIMIT.as_secs())
            });
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Loads every `*.tar` of `dir` into every node, nodes side by side; what a node already took is skipped.
///
/// # Errors
/// When there is none, or a node refuses one.
pub fn load_dir(lab: &Lab, spec: &Spec, dir: &Path) -> Result<()> {
    let mut archives: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("no images at {}; deploy/images/build makes them", dir.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "tar"))
        .collect();
    // The small ones first: no pod begins without pause
    archives.sort_by_cached_key(|path| (path.metadata().map_or(0, |m| m.len()), path.clone()));
    ensure!(!archives.is_empty(), "no images at {}; deploy/images/build makes them", dir.display());
    load(lab, spec, &archives)
}

/// Loads the given archives into every node.
///
/// # Errors
/// When a node refuses one.
pub fn load(lab: &Lab, spec: &Spec, archives: &[PathBuf]) -> Result<()> {
    std::thread::scope(|scope| {
        let jobs: Vec<_> =
            spec.nodes.iter().map(|node| scope.spawn(move || load_node(lab, node, archives))).collect();
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or_else(|_| bail!("loading images failed")))
    })
}

fn load_node(lab: &Lab, node: &NodeSpec, archives: &[PathBuf]) -> Result<()> {
    let taken = lab.node_dir(node).join("images");
    fs::create_dir_all(&taken)?;
    for archive in archives {
        let mark = taken.join(fingerprint(archive)?);
        if mark.exists() {
            continue;
        }
        import(lab, node, archive)?;
        fs::write(mark, archive.display().to_string())?;
    }
    Ok(())
}

fn fingerprint(archive: &Path) -> Result<String> {
    let data = fs::read(archive).with_context(|| format!("reading {}", archive.display()))?;
    Ok(hex::encode(Sha256::digest(&data)))
}

/// Tries until containerd answers; other failures are final.
fn import(lab: &Lab, node: &NodeSpec, archive: &Path) -> Result<()> {
    let end = Instant::now() + START_LIMIT;
    loop {
        let out = Command::new("ctr")
            .arg("--address")
            .arg(lab.containerd_socket(node))
            .args(["--connect-timeout", "1s", "--namespace", NAMESPACE, "images", "import"])
            .arg(archive)
            .stdin(Stdio::null())
            .output()
            .context("running ctr (Debian's containerd)")?;
        if out.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr).trim().to_string();
        let starting = [
            "no such file",
            "connection refused",
            "context deadline",
            "server is not initialized",
            "Unavailable",
        ]
        .iter()
        .any(|s| said.contains(s));
        if !starting || Instant::now() > end {
            bail!("node {} did not take {}: {said}", node.name, archive.display());
        }
        std::thread::sleep(PAUSE);
    }
}
