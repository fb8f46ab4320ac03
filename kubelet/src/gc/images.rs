//! Unused images go when the image file system fills up, least recently used first.

use crate::events::{self, WARNING};
use crate::images::Usage;
use crate::pods::host::Host;
use crate::runtime::cri;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(300);

/// Capacity and available bytes of the file system at `path`.
pub fn fs_bytes(path: &str) -> Option<(u64, u64)> {
    let s = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = s.fragment_size();
    Some((s.blocks() * unit, s.blocks_available() * unit))
}

/// Bytes to free so that usage falls to `low` percent once it is over `high`; 0 when it is not. Pure.
pub fn to_free(capacity: u64, available: u64, high: i32, low: i32) -> u64 {
    if capacity == 0 || high >= 100 {
        return 0;
    }
    let used = capacity.saturating_sub(available);
    let percent = used * 100 / capacity;
    if percent < u64::try_from(high).unwrap_or(100) {
        return 0;
    }
    used.saturating_sub(capacity * u64::try_from(low).unwrap_or(0) / 100)
}

/// Image ids to remove for `need` bytes, in order. Pure.
pub fn choose(
    images: &[(cri::Image, Usage)],
    in_use: &HashSet<String>,
    need: u64,
    min_age: Duration,
    now: Instant,
) -> Vec<String> {
    let mut free: Vec<&(cri::Image, Usage)> = images
        .iter()
        .filter(|(i, u)| {
            !i.pinned && !in_use.contains(&i.id) && now.saturating_duration_since(u.detected) >= min_age
        })
        .collect();
    free.sort_by_key(|(_, u)| (u.used, u.detected));
    let mut freed = 0;
    let mut out = Vec::new();
    for (image, _) in free {
        if freed >= need {
            break;
        }
        freed += image.size;
        out.push(image.id.clone());
    }
    out
}

/// Runs until the end of the process.
pub async fn run(host: Arc<Host>) {
    let mut failures = 0;
    let mut tick = tokio::time::interval(PERIOD);
    tick.tick().await;
    loop {
        tick.tick().await;
        match collect(&host, None).await {
            Ok(()) => failures = 0,
            Err(e) => {
                failures += 1;
                if failures > 1 {
                    let node = events::node_ref(&host.ctx.config.node_name);
                    host.ctx.events.record(node, WARNING, "ImageGCFailed", e);
                }
            }
        }
    }
}

/// One collection; with `all` every unused image goes (eviction for disk).
pub async fn collect(host: &Host, all: Option<()>) -> Result<(), String> {
    let runtime = &host.ctx.runtime;
    let info = runtime.image_fs_info().await.map_err(|e| e.to_string())?;
    let mount = info.image_filesystems.first().and_then(|f| f.fs_id.as_ref()).map(|id| id.mountpoint.clone());
    let Some((capacity, available)) = mount.as_deref().and_then(fs_bytes) else { return Ok(()) };
    let config = &host.ctx.config.file;
    let need = match all {
        Some(()) => u64::MAX,
        None => to_free(
            capacity,
            available,
            config.image_gc_high_threshold_percent,
            config.image_gc_low_threshold_percent,
        ),
    };
    let images = runtime.list_images().await.map_err(|e| e.to_string())?;
    let in_use: HashSet<String> = host
        .relist
        .views()
        .iter()
        .flat_map(|v| v.containers.iter().flat_map(|c| [c.image_id.clone(), c.image.clone()]))
        .collect();
    let (known, used_ids) = note_usage(host, &images, &in_use);
    if need == 0 {
        return Ok(());
    }
    let mut freed = 0;
    for id in choose(&known, &used_ids, need, config.image_minimum_gc_age.0, Instant::now()) {
        let spec = cri::ImageSpec { image: id.clone(), ..Default::default() };
        if runtime.remove_image(spec).await.is_ok() {
            host.images.forget(&id);
            host.ctx.metrics.images_collected.inc();
            freed += images.iter().find(|i| i.id == id).map_or(0, |i| i.size);
        }
    }
    if freed < need && all.is_none() {
        let text = format!(
            "Failed to garbage collect required amount of images. Attempted to free {need} bytes, but only found {freed} bytes eligible to free."
        );
        host.ctx.events.record(
            events::node_ref(&host.ctx.config.node_name),
            WARNING,
            "FreeDiskSpaceFailed",
            text.clone(),
        );
        return Err(text);
    }
    Ok(())
}

fn note_usage(
    host: &Host,
    images: &[cri::Image],
    in_use: &HashSet<String>,
) -> (Vec<(cri::Image, Usage)>, HashSet<String>) {
    let now = Instant::now();
    let mut usage = host.images.usage.lock();
    usage.retain(|id, _| images.iter().any(|i| &i.id == id));
    let mut used_ids = HashSet::new();
    let mut out = Vec::new();
    for image in images {
        let entry = usage.entry(image.id.clone()).or_insert(Usage { detected: now, used: None });
        let names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
        if names.into_iter().any(|n| in_use.contains(n)) {
            entry.used = Some(now);
            used_ids.insert(image.id.clone());
        }
        out.push((image.clone(), *entry));
    }
    (out, used_ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert_eq!(to_free(1000, 200, 85, 80), 0);
        assert_eq!(to_free(1000, 150, 85, 80), 50);
        assert_eq!(to_free(1000, 0, 100, 80), 0);
        assert_eq!(to_free(0, 0, 85, 80), 0);
    }

    #[test]
    fn least_recently_used_first() {
        let now = Instant::now();
        let at = |s: u64| now.checked_sub(Duration::from_secs(s)).unwrap_or(now);
        let image = |id: &str, pinned| cri::Image { id: id.into(), size: 10, pinned, ..Default::default() };
        let images = [
            (image("young", false), Usage { detected: at(10), used: None }),
            (image("b", false), Usage { detected: at(900), used: Some(at(200)) }),
            (image("a", false), Usage { detected: at(900), used: Some(at(500)) }),
            (image("never", false), Usage { detected: at(800), used: None }),
            (image("pinned", true), Usage { detected: at(900), used: None }),
            (image("busy", false), Usage { detected: at(900), used: None }),
        ];
        let busy = HashSet::from(["busy".to_owned()]);
        let min = Duration::from_secs(120);
        assert_eq!(choose(&images, &busy, 15, min, now), ["never", "a"]);
        assert_eq!(choose(&images, &busy, 100, min, now), ["never", "a", "b"]);
    }
}
