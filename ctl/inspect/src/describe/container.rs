//! Containers of pods and of pod templates.

use super::env;
use super::page::Page;
use super::probe;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes a list of containers with what the statuses of the same names say.
///
/// `pod` is the pod whose fields the environment may refer to (none for templates); `before` is put before titles.
pub fn list(
    title: &str,
    containers: &[Value],
    statuses: &[Value],
    pod: Option<&Value>,
    before: &str,
    page: &mut Page,
) {
    let none = if containers.is_empty() { " <none>" } else { "" };
    put!(page, 0, "{before}{title}:{none}\n");
    for container in containers {
        let name = dig::text(container, "name");
        let status = statuses.iter().find(|status| dig::text(status, "name") == name);
        one(container, status, pod, before, page);
    }
}

fn one(container: &Value, status: Option<&Value>, pod: Option<&Value>, before: &str, page: &mut Page) {
    let indent = if before.is_empty() { "" } else { " " };
    put!(page, 1, "{indent}{}:\n", dig::text(container, "name"));
    identity(container, status, page);
    ports(container, page);
    seccomp(&container["securityContext"], 2, 3, page);
    command(container, page);
    if let Some(status) = status {
        state(status, page);
    }
    resources(&container["resources"], 2, page);
    probe::all(container, page);
    env::sources(container, page);
    env::variables(container, pod, page);
    mounts(container, page);
}

fn identity(container: &Value, status: Option<&Value>, page: &mut Page) {
    if let Some(status) = status {
        page.field(2, "Container ID", dig::text(status, "containerID"));
    }
    page.field(2, "Image", dig::text(container, "image"));
    if let Some(status) = status {
        page.field(2, "Image ID", dig::text(status, "imageID"));
    }
}

fn ports(container: &Value, page: &mut Page) {
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let ports: Vec<_> = dig::items(container, "ports").iter().map(|port| one_port(port, field)).collect();
        match ports.len() {
            0 | 1 => page.field(2, title, dig::or_none(&ports.concat())),
            _ => page.field(2, &format!("{title}s"), ports.join(", ")),
        }
    }
}

fn one_port(port: &Value, field: &str) -> String {
    let text = format!("{}/{}", dig::int(port, field), dig::text(port, "protocol"));
    match dig::text(port, "name") {
        "" => text,
        name => format!("{text} ({name})"),
    }
}

/// `SeccompProfile:` of a security context, if it has one.
pub fn seccomp(context: &Value, level: usize, local_level: usize, page: &mut Page) {
    if !dig::has(context, "seccompProfile") {
        return;
    }
    let kind = dig::text(context, "seccompProfile.type");
    page.field(level, "SeccompProfile", kind);
    if kind == "Localhost" {
        page.field(local_level, "LocalhostProfile", dig::text(context, "seccompProfile.localhostProfile"));
    }
}

fn command(container: &Value, page: &mut Page) {
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        let words = dig::texts(container, field);
        if words.is_empty() {
            continue;
        }
        put!(page, 2, "{title}:\n");
        for line in words.iter().flat_map(|word| word.split('\n')) {
            put!(page, 3, "{line}\n");
        }
    }
}

fn state(status: &Value, page: &mut Page) {
    one_state("State", &status["state"], page);
    if dig::has(status, "lastState.terminated") {
        one_state("Last State", &status["lastState"], page);
    }
    page.field(2, "Ready", dig::truth(dig::flag(status, "ready")));
    page.field(2, "Restart Count", dig::int(status, "restartCount"));
}

fn one_state(title: &str, state: &Value, page: &mut Page) {
    if dig::has(state, "running") {
        page.field(2, title, "Running");
        page.field(3, "Started", dig::date(state, "running.startedAt"));
    } else if dig::has(state, "waiting") || !dig::has(state, "terminated") {
        page.field(2, title, "Waiting");
        filled(state, &[("Reason", "waiting.reason")], page);
    } else {
        page.field(2, title, "Terminated");
        filled(state, &[("Reason", "terminated.reason"), ("Message", "terminated.message")], page);
        page.field(3, "Exit Code", dig::int(state, "terminated.exitCode"));
        if dig::int(state, "terminated.signal") > 0 {
            page.field(3, "Signal", dig::int(state, "terminated.signal"));
        }
        page.field(3, "Started", dig::date(state, "terminated.startedAt"));
        page.field(3, "Finished", dig::date(state, "terminated.finishedAt"));
    }
}

/// Fields that are said only when they are not empty.
fn filled(state: &Value, fields: &[(&str, &str)], page: &mut Page) {
    for (title, path) in fields {
        let text = dig::text(state, path);
        if !text.is_empty() {
            page.field(3, title, text);
        }
    }
}

/// `Limits:` and `Requests:`.
pub fn resources(resources: &Value, level: usize, page: &mut Page) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let entries = dig::entries(resources, field);
        if entries.is_empty() {
            continue;
        }
        put!(page, level, "{title}:\n");
        for (name, value) in entries {
            page.field(level + 1, name, dig::quantity(value));
        }
    }
}

fn mounts(container: &Value, page: &mut Page) {
    let mut mounts: Vec<_> = dig::items(container, "volumeMounts").iter().collect();
    mounts.sort_by_key(|mount| dig::text(mount, "mountPath"));
    let none = if mounts.is_empty() { "\t<none>" } else { "" };
    put!(page, 2, "Mounts:{none}\n");
    for mount in mounts {
        let (path, name) = (dig::text(mount, "mountPath"), dig::text(mount, "name"));
        put!(page, 3, "{path} from {name} ({})\n", mount_flags(mount));
    }
    devices(container, none, page);
}

fn mount_flags(mount: &Value) -> String {
    let access = if dig::flag(mount, "readOnly") { "ro" } else { "rw" };
    match dig::text(mount, "subPath") {
        "" => access.into(),
        path => format!("{access},path={path:?}"),
    }
}

fn devices(container: &Value, none: &str, page: &mut Page) {
    let mut devices: Vec<_> = dig::items(container, "volumeDevices").iter().collect();
    if devices.is_empty() {
        return;
    }
    devices.sort_by_key(|device| dig::text(device, "devicePath"));
    put!(page, 2, "Devices:{none}\n");
    for device in devices {
        put!(page, 3, "{} from {}\n", dig::text(device, "devicePath"), dig::text(device, "name"));
    }
}
