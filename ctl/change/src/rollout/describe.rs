//! A pod template in words, as the history of rollouts shows it: with tabs that nothing lines up.

use serde_json::Value;

/// `Pod Template:` and everything in it.
pub fn pod_template(template: &Value) -> String {
    let mut out = String::from("Pod Template:\n");
    out += &map("  Labels:", &template["metadata"]["labels"]);
    let annotations = &template["metadata"]["annotations"];
    if annotations.as_object().is_some_and(|a| !a.is_empty()) {
        out += &colon_map("  Annotations:", annotations);
    }
    let spec = &template["spec"];
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|a| !a.is_empty()) {
        out += &format!("  Service Account:\t{account}\n");
    }
    if let Some(init) = spec["initContainers"].as_array().filter(|c| !c.is_empty()) {
        out += "  Init Containers:\n";
        init.iter().for_each(|c| out += &container(c));
    }
    out += "  Containers:\n";
    spec["containers"].as_array().into_iter().flatten().for_each(|c| out += &container(c));
    out += &volumes(spec);
    if let Some(class) = spec["priorityClassName"].as_str().filter(|c| !c.is_empty()) {
        out += &format!("  Priority Class Name:\t{class}\n");
    }
    out += &map("  Node-Selectors:", &spec["nodeSelector"]);
    out += &tolerations(spec);
    out
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn map(title: &str, values: &Value) -> String {
    rows(title, values, "=")
}

fn colon_map(title: &str, values: &Value) -> String {
    rows(title, values, ": ")
}

fn rows(title: &str, values: &Value, sign: &str) -> String {
    let Some(values) = values.as_object().filter(|v| !v.is_empty()) else {
        return format!("{title}\t<none>\n");
    };
    let line = |(at, (key, value)): (usize, (&String, &Value))| {
        let lead = if at == 0 { title.to_string() } else { String::new() };
        format!("{lead}\t{key}{sign}{}\n", text(value))
    };
    values.iter().enumerate().map(line).collect()
}

fn container(c: &Value) -> String {
    let mut out = format!("   {}:\n    Image:\t{}\n", text(&c["name"]), text(&c["image"]));
    out += &ports(c);
    for (title, member) in [("Command", "command"), ("Args", "args")] {
        if let Some(words) = c[member].as_array().filter(|w| !w.is_empty()) {
            out += &format!("    {title}:\n");
            words.iter().for_each(|word| out += &format!("      {}\n", text(word).replace('\n', "\n      ")));
        }
    }
    for (title, member) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(list) = c["resources"][member].as_object().filter(|l| !l.is_empty()) {
            out += &format!("    {title}:\n");
            list.iter().for_each(|(k, v)| out += &format!("      {k}:\t{}\n", text(v)));
        }
    }
    for (title, member) in
        [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
    {
        if let Some(probe) = c.get(member).filter(|p| p.is_object()) {
            out += &format!("    {title}:\t{}\n", self::probe(probe));
        }
    }
    out + &environment(c) + &mounts(c)
}

fn ports(c: &Value) -> String {
    let ports = c["ports"].as_array().cloned().unwrap_or_default();
    let list = |member: &str| {
        let one = |p: &Value| {
            format!("{}/{}", p[member].as_i64().unwrap_or_default(), p["protocol"].as_str().unwrap_or("TCP"))
        };
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let (own, host) = (list("containerPort"), list("hostPort"));
    match ports.len() {
        0 => "    Port:\t<none>\n    Host Port:\t<none>\n".into(),
        1 => format!("    Port:\t{own}\n    Host Port:\t{host}\n"),
        _ => format!("    Ports:\t{own}\n    Host Ports:\t{host}\n"),
    }
}

fn probe(p: &Value) -> String {
    let number = |member: &str, default: i64| p[member].as_i64().unwrap_or(default);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    );
    let action = if let Some(http) = p.get("httpGet") {
        let scheme = http["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        let host = http["host"].as_str().unwrap_or_default();
        format!(
            "http-get {scheme}://{host}:{}{}",
            text(&http["port"]),
            http["path"].as_str().unwrap_or_default()
        )
    } else if let Some(exec) = p.get("exec") {
        let words: Vec<String> = exec["command"].as_array().into_iter().flatten().map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else if let Some(tcp) = p.get("tcpSocket") {
        format!("tcp-socket {}:{}", tcp["host"].as_str().unwrap_or_default(), text(&tcp["port"]))
    } else if let Some(grpc) = p.get("grpc") {
        format!("grpc <pod>:{} {}", text(&grpc["port"]), grpc["service"].as_str().unwrap_or_default())
    } else {
        "unknown".into()
    };
    format!("{action} {attributes}")
}

fn environment(c: &Value) -> String {
    let mut out = String::new();
    if let Some(sources) = c["envFrom"].as_array().filter(|s| !s.is_empty()) {
        out += "    Environment Variables from:\n";
        for source in sources {
            let (kind, member) = if source.get("secretRef").is_some() {
                ("Secret", "secretRef")
            } else {
                ("ConfigMap", "configMapRef")
            };
            let optional = source[member]["optional"] == true;
            out += &format!("      {}\t{kind}\tOptional: {optional}\n", text(&source[member]["name"]));
        }
    }
    let Some(env) = c["env"].as_array().filter(|e| !e.is_empty()) else {
        return out + "    Environment:\t<none>\n";
    };
    out += "    Environment:\n";
    for variable in env {
        let name = text(&variable["name"]);
        out += &match variable.get("valueFrom") {
            None => format!("      {name}:\t{}\n", variable["value"].as_str().unwrap_or_default()),
            Some(from) => format!("      {name}:\t{}\n", reference(from)),
        };
    }
    out
}

fn reference(from: &Value) -> String {
    for (member, kind) in [("secretKeyRef", "secret"), ("configMapKeyRef", "config map")] {
        if let Some(key) = from.get(member) {
            let optional = key["optional"] == true;
            return format!(
                "<set to the key '{}' of {kind} '{}'>\tOptional: {optional}",
                text(&key["key"]),
                text(&key["name"])
            );
        }
    }
    match from.get("fieldRef") {
        Some(field) => {
            format!(" ({}:{})", field["apiVersion"].as_str().unwrap_or("v1"), text(&field["fieldPath"]))
        }
        None => format!(" ({})", text(&from["resourceFieldRef"]["resource"])),
    }
}

fn mounts(c: &Value) -> String {
    let Some(mounts) = c["volumeMounts"].as_array().filter(|m| !m.is_empty()) else {
        return "    Mounts:\t<none>\n".into();
    };
    let mut lines: Vec<String> = mounts.iter().map(mount).collect();
    lines.sort();
    format!("    Mounts:\n{}", lines.concat())
}

fn mount(m: &Value) -> String {
    let mut flags = vec![if m["readOnly"] == true { "ro".to_string() } else { "rw".into() }];
    if let Some(path) = m["subPath"].as_str().filter(|p| !p.is_empty()) {
        flags.push(format!("path=\"{path}\""));
    }
    format!("      {} from {} ({})\n", text(&m["mountPath"]), text(&m["name"]), flags.join(","))
}

fn volumes(spec: &Value) -> String {
    let Some(volumes) = spec["volumes"].as_array().filter(|v| !v.is_empty()) else {
        return "  Volumes:\t<none>\n".into();
    };
    let one = |volume: &Value| format!("   {}:\n{}", text(&volume["name"]), source(volume));
    format!("  Volumes:\n{}", volumes.iter().map(one).collect::<String>())
}

fn source(volume: &Value) -> String {
    let row = |name: &str, value: String| format!("    {name}:\t{value}\n");
    let optional = |v: &Value| row("Optional", (v["optional"] == true).to_string());
    if let Some(v) = volume.get("emptyDir") {
        let limit = v["sizeLimit"].as_str().unwrap_or("<unset>").to_string();
        return row("Type", "EmptyDir (a temporary directory that shares a pod's lifetime)".into())
            + &row("Medium", v["medium"].as_str().unwrap_or_default().into())
            + &row("SizeLimit", limit);
    }
    if let Some(v) = volume.get("hostPath") {
        return row("Type", "HostPath (bare host directory volume)".into())
            + &row("Path", text(&v["path"]))
            + &row("HostPathType", v["type"].as_str().unwrap_or_default().into());
    }
    if let Some(v) = volume.get("configMap") {
        return row("Type", "ConfigMap (a volume populated by a ConfigMap)".into())
            + &row("Name", text(&v["name"]))
            + &optional(v);
    }
    if let Some(v) = volume.get("secret") {
        return row("Type", "Secret (a volume populated by a Secret)".into())
            + &row("SecretName", text(&v["secretName"]))
            + &optional(v);
    }
    if let Some(v) = volume.get("persistentVolumeClaim") {
        return row(
            "Type",
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)".into(),
        ) + &row("ClaimName", text(&v["claimName"]))
            + &row("ReadOnly", (v["readOnly"] == true).to_string());
    }
    let kind = volume.as_object().and_then(|v| v.keys().find(|k| *k != "name")).cloned().unwrap_or_default();
    row("Type", kind)
}

fn tolerations(spec: &Value) -> String {
    let Some(list) = spec["tolerations"].as_array().filter(|t| !t.is_empty()) else {
        return "  Tolerations:\t<none>\n".into();
    };
    let line = |(at, t): (usize, &Value)| {
        let lead = if at == 0 { "  Tolerations:" } else { "" };
        format!("{lead}\t{}\n", toleration(t))
    };
    list.iter().enumerate().map(line).collect()
}

fn toleration(t: &Value) -> String {
    let part = |member: &str| t[member].as_str().unwrap_or_default();
    let mut out = part("key").to_string();
    if !part("value").is_empty() {
        out += &format!("={}", part("value"));
    }
    if !part("effect").is_empty() {
        out += &format!(":{}", part("effect"));
    }
    if part("operator") == "Exists" && part("value").is_empty() {
        out += if out.is_empty() { "op=Exists" } else { " op=Exists" };
    }
    if let Some(seconds) = t["tolerationSeconds"].as_i64() {
        out += &format!(" for {seconds}s");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_template() {
        let template = json!({"metadata": {"labels": {"app": "d", "h": "1"}}, "spec": {"containers": [{"name": "echo", "image": "e:1", "ports": [{"containerPort": 8080, "protocol": "TCP"}]}]}});
        let want = "Pod Template:\n  Labels:\tapp=d\n\th=1\n  Containers:\n   echo:\n    Image:\te:1\n    Port:\t8080/TCP\n    Host Port:\t0/TCP\n    Environment:\t<none>\n    Mounts:\t<none>\n  Volumes:\t<none>\n  Node-Selectors:\t<none>\n  Tolerations:\t<none>\n";
        assert_eq!(pod_template(&template), want);
    }
}
