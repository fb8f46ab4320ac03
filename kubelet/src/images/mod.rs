//! Images: is it there, may it be pulled, pull it, and the back-off between failed pulls.

pub mod credentials;

use crate::config::Config;
use crate::pods::backoff::Backoff;
use crate::runtime::{Runtime, RuntimeError, cri};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a found image is believed to be there without asking again.
const FRESH: Duration = Duration::from_secs(5);

/// Why a container has no image: waiting reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName, ImageInspectError
    pub reason: &'static str,
    /// text
    pub message: String,
}

/// What happened, for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// N Pulling
    Pulling(String),
    /// N Pulled
    Pulled(String),
    /// W Failed
    Failed(String),
    /// N BackOff
    BackOff(String),
    /// W ErrImageNeverPull
    NeverPull(String),
    /// W InspectFailed
    InspectFailed(String),
}

/// A request for an image.
pub struct Wanted<'a> {
    /// UID of the pod (back-off key)
    pub pod_uid: &'a str,
    /// `ns/name` style name for the remark in Pulled
    pub image: &'a str,
    /// Always, IfNotPresent, Never
    pub policy: &'a str,
    /// credentials to try, in order; empty = anonymous
    pub auth: Vec<cri::AuthConfig>,
    /// sandbox the image is for
    pub sandbox: &'a cri::PodSandboxConfig,
}

/// The image manager of the node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    present: Mutex<HashMap<String, (Instant, cri::Image)>>,
    backoff: Mutex<Backoff>,
    errors: Mutex<HashMap<String, String>>,
    slots: Semaphore,
    /// when each image (by id) was first and last seen in use
    pub usage: Mutex<HashMap<String, Usage>>,
}

/// When an image was found and last used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// first seen on the node
    pub detected: Instant,
    /// last seen with a container
    pub used: Option<Instant>,
}

impl Images {
    /// An image manager; serializeImagePulls and maxParallelImagePulls bound parallel pulls.
    pub fn new(runtime: Arc<dyn Runtime>, config: &Config) -> Self {
        let serial = config.file.serialize_image_pulls.unwrap_or(false);
        let most = config.file.max_parallel_image_pulls.and_then(|m| usize::try_from(m).ok());
        let slots = if serial { 1 } else { most.unwrap_or(64).max(1) };
        Self {
            runtime,
            present: Mutex::default(),
            backoff: Mutex::new(Backoff::new(Duration::from_secs(10), Duration::from_secs(300))),
            errors: Mutex::default(),
            slots: Semaphore::new(slots),
            usage: Mutex::default(),
        }
    }

    /// Makes sure the image is there; `report` hears of progress. The answer is the local image.
    pub async fn ensure(&self, w: &Wanted<'_>, report: impl Fn(Progress)) -> Result<cri::Image, ImageError> {
        let name = normalize(w.image).ok_or_else(|| {
            let message = format!(
                "Failed to apply default image tag \"{0}\": couldn't parse image name \"{0}\": invalid reference format",
                w.image
            );
            report(Progress::InspectFailed(message.clone()));
            ImageError { reason: "InvalidImageName", message }
        })?;
        let spec = cri::ImageSpec {
            image: name.clone(),
            user_specified_image: w.image.into(),
            ..Default::default()
        };
        if w.policy != "Always" {
            match self.find(&spec).await {
                Ok(Some(image)) => {
                    report(Progress::Pulled(format!(
                        "Container image \"{}\" already present on machine and can be accessed by the pod",
                        w.image
                    )));
                    return Ok(image);
                }
                Ok(None) => {}
                Err(e) => {
                    report(Progress::InspectFailed(format!("Failed to inspect image \"{}\": {e}", w.image)));
                    return Err(ImageError {
                        reason: "ImageInspectError",
                        message: format!("Failed to inspect image \"{}\": {e}", w.image),
                    });
                }
            }
        }
        if w.policy == "Never" {
            let message = format!("Container image \"{}\" is not present with pull policy of Never", w.image);
            report(Progress::NeverPull(message.clone()));
            return Err(ImageError { reason: "ErrImageNeverPull", message });
        }
        self.pull(w, spec, report).await
    }

    async fn pull(
        &self,
        w: &Wanted<'_>,
        spec: cri::ImageSpec,
        report: impl Fn(Progress),
    ) -> Result<cri::Image, ImageError> {
        let key = format!("{}_{}", w.pod_uid, w.image);
        if let Some(wait) = self.backoff.lock().waiting(&key, Instant::now()) {
            report(Progress::BackOff(format!("Back-off pulling image \"{}\"", w.image)));
            let last = self.errors.lock().get(&key).cloned().unwrap_or_default();
            let _ = wait;
            return Err(ImageError {
                reason: "ImagePullBackOff",
                message: format!("Back-off pulling image \"{}\": {last}", w.image),
            });
        }
        report(Progress::Pulling(format!("Pulling image \"{}\"", w.image)));
        let asked = Instant::now();
        let _slot = self.slots.acquire().await;
        let began = Instant::now();
        match self.pull_with(w, &spec).await {
            Ok(()) => {}
            Err(e) => {
                report(Progress::Failed(format!("Failed to pull image \"{}\": {e}", w.image)));
                self.backoff.lock().next(&key, Instant::now());
                self.errors.lock().insert(key, format!("ErrImagePull: {e}"));
                return Err(ImageError { reason: "ErrImagePull", message: e.to_string() });
            }
        }
        self.present.lock().remove(&spec.image);
        let found = self.find(&spec).await.ok().flatten();
        let image = found.ok_or_else(|| ImageError {
            reason: "ErrImagePull",
            message: format!("image \"{}\" was pulled but is not there", w.image),
        })?;
        let (took, total) = (began.elapsed(), asked.elapsed());
        report(Progress::Pulled(format!(
            "Successfully pulled image \"{}\" in {} ({} including waiting). Image size: {} bytes.",
            w.image,
            rounded(took),
            rounded(total),
            image.size
        )));
        let mut backoff = self.backoff.lock();
        backoff.collect(Instant::now());
        backoff.reset(&key);
        drop(backoff);
        self.errors.lock().remove(&key);
        Ok(image)
    }

    async fn pull_with(&self, w: &Wanted<'_>, spec: &cri::ImageSpec) -> Result<(), RuntimeError> {
        if w.auth.is_empty() {
            return self.runtime.pull_image(spec.clone(), None, w.sandbox.clone()).await.map(|_| ());
        }
        let mut last = None;
        for auth in &w.auth {
            match self.runtime.pull_image(spec.clone(), Some(auth.clone()), w.sandbox.clone()).await {
                Ok(_) => return Ok(()),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| RuntimeError::Unavailable("no credentials were tried".into())))
    }

    async fn find(&self, spec: &cri::ImageSpec) -> Result<Option<cri::Image>, RuntimeError> {
        let cached = self
            .present
            .lock()
            .get(&spec.image)
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, i)| i.clone());
        if cached.is_some() {
            return Ok(cached);
        }
        let found = self.runtime.image_status(spec.clone()).await?;
        if let Some(image) = &found {
            self.present.lock().insert(spec.image.clone(), (Instant::now(), image.clone()));
        }
        Ok(found)
    }

    /// When the next try for a pod's image is due.
    pub fn next_try(&self, pod_uid: &str, image: &str) -> Option<Duration> {
        self.backoff.lock().waiting(&format!("{pod_uid}_{image}"), Instant::now())
    }

    /// An image turned out to be gone.
    pub fn forget(&self, image: &str) {
        self.present.lock().retain(|k, (_, i)| k != image && i.id != image);
    }
}

fn rounded(d: Duration) -> String {
    crate::config::duration::format(Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(0)))
}

/// The full reference: `:latest` when there is neither tag nor digest. None when it is no reference.
pub fn normalize(image: &str) -> Option<String> {
    let image = image.trim();
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (base, tag) = match last.split_once(':') {
        Some((b, t)) => (b, Some(t)),
        None => (last, None),
    };
    let path = name.get(..name.len() - last.len())?;
    let part_ok = |p: &str| {
        !p.is_empty()
            && p.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
            && p.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && p.chars().last().is_some_and(|c| c.is_ascii_alphanumeric())
    };
    let mut parts = path.strip_suffix('/').unwrap_or(path).split('/').filter(|_| !path.is_empty());
    let host_ok = parts.next().is_none_or(|h| {
        !h.is_empty() && h.chars().all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c))
    });
    let tag_ok = tag.is_none_or(|t| {
        !t.is_empty() && t.len() <= 128 && t.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    let digest_ok =
        digest.is_none_or(|d| d.split_once(':').is_some_and(|(a, h)| !a.is_empty() && h.len() >= 32));
    if !(part_ok(base) && host_ok && parts.all(part_ok) && tag_ok && digest_ok) {
        return None;
    }
    Some(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::memory::MemoryRuntime;

    #[test]
    fn references() {
        for (text, want) in [
            ("busybox", Some("busybox:latest")),
            ("a.b:5000/x/y", Some("a.b:5000/x/y:latest")),
            ("a/b:1", Some("a/b:1")),
            ("Busy", None),
            ("a b", None),
            ("", None),
            ("a:", None),
            ("a//b", None),
        ] {
            assert_eq!(normalize(text).as_deref(), want, "{text}");
        }
    }

    fn wanted<'a>(image: &'a str, policy: &'a str, sandbox: &'a cri::PodSandboxConfig) -> Wanted<'a> {
        Wanted { pod_uid: "u", image, policy, auth: Vec::new(), sandbox }
    }

    #[tokio::test]
    async fn policies_and_backoff() {
        let runtime = Arc::new(MemoryRuntime::new());
        let images = Images::new(runtime.clone(), &Config::default());
        let sandbox = cri::PodSandboxConfig::default();
        let never = images.ensure(&wanted("a:1", "Never", &sandbox), |_| {}).await;
        assert_eq!(never.unwrap_err().reason, "ErrImageNeverPull");
        runtime.fail_pull("a:1", Some("no such image"));
        let first = images.ensure(&wanted("a:1", "IfNotPresent", &sandbox), |_| {}).await.unwrap_err();
        assert_eq!(first.reason, "ErrImagePull");
        let second = images.ensure(&wanted("a:1", "IfNotPresent", &sandbox), |_| {}).await.unwrap_err();
        assert_eq!(second.reason, "ImagePullBackOff");
        assert!(second.message.contains("no such image"), "{}", second.message);
        assert!(images.next_try("u", "a:1").unwrap() <= Duration::from_secs(10));
        let seen = Mutex::new(Vec::new());
        images.ensure(&wanted("b:1", "IfNotPresent", &sandbox), |p| seen.lock().push(p)).await.unwrap();
        let seen = seen.into_inner();
        assert!(matches!((&seen[0], &seen[1]), (Progress::Pulling(_), Progress::Pulled(_))));
        assert_eq!(
            images.ensure(&wanted("A", "Always", &sandbox), |_| {}).await.unwrap_err().reason,
            "InvalidImageName"
        );
    }
}
