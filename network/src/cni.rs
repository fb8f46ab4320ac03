//! The CNI configuration: the standard plug-ins bridge, host-local and portmap.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

/// Name of the file. Runtimes take the first by name.
pub const FILE: &str = "10-coxswain.conflist";
/// Bridge that pods are joined to.
pub const BRIDGE: &str = "cni0";

/// The configuration for pods of these networks on links of this size.
pub fn conflist(cidrs: &[IpNet], mtu: u32) -> Value {
    let ranges: Vec<Value> = cidrs.iter().map(|c| json!([{"subnet": c.to_string()}])).collect();
    let default = |c: &IpNet| if c.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let routes: Vec<Value> = cidrs.iter().map(|c| json!({"dst": default(c)})).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "coxswain",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                // The default route comes from ipam; isDefaultGateway would add it a second time and fail.
                "isGateway": true,
                // A node that comes back may have been given another network; its bridge then takes the new address.
                "forceAddress": true,
                "ipMasq": false,
                "hairpinMode": true,
                "mtu": mtu,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Writes the configuration in one step, if it differs. True if it was written.
pub fn install(dir: &Path, conflist: &Value) -> Result<bool> {
    let path = dir.join(FILE);
    let mut text = serde_json::to_vec_pretty(conflist)?;
    text.push(b'\n');
    if std::fs::read(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    replace(&path, &text).with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// The new file appears under its name only when it is complete. The name in between begins with a dot and ends
/// unlike a configuration, so that no runtime reads it.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial: PathBuf = path.with_file_name(format!(".{name}.partial"));
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("net.d");
        let config = conflist(&["10.244.1.0/24".parse().unwrap()], 1500);
        assert!(install(&sub, &config).unwrap());
        assert!(!install(&sub, &config).unwrap());
        assert!(install(&sub, &conflist(&["10.244.2.0/24".parse().unwrap()], 1500)).unwrap());
        let names: Vec<_> = std::fs::read_dir(&sub).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        let read: Value = serde_json::from_slice(&std::fs::read(sub.join(FILE)).unwrap()).unwrap();
        assert_eq!(read["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.2.0/24");
    }

    #[test]
    fn two_families() {
        let config = conflist(&["10.244.1.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()], 1450);
        expect_test::expect![[r#"{"ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"type":"host-local"}"#]]
            .assert_eq(&config["plugins"][0]["ipam"].to_string());
    }
}
