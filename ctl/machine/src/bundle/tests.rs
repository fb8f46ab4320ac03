use super::*;
use crate::Made;
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let bench = Self { root: tempfile::tempdir()? };
        fs::create_dir(bench.at("bin"))?;
        for name in
            ["coxctl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
                .into_iter()
                .chain(["coxswain-network", "coxswain-balancer", "etcd"])
        {
            fs::write(bench.at("bin").join(name), format!("#!/bin/sh\necho {name}\n{}", "x".repeat(5000)))?;
        }
        fs::create_dir(bench.at("images"))?;
        let mut tar = tar::Builder::new(File::create(bench.at("images/pause.tar"))?);
        for (name, text) in
            [("c", "{}"), ("manifest.json", r#"[{"Config":"c","RepoTags":["coxswain.local/pause:1"]}]"#)]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes())?;
        }
        tar.finish()?;
        Ok(bench)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn pack(&self, version: &str) -> Result<PathBuf> {
        let out = self.at(&format!("bundle-{version}.tar.gz"));
        pack(&Spec {
            bin_dir: self.at("bin"),
            images: Some(self.at("images")),
            version: version.into(),
            kubernetes: "v1.36.2".into(),
            out: out.clone(),
        })?;
        Ok(out)
    }

    fn made(&self) -> Result<Made> {
        Made::open_in(&self.at("state"))
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_opens() -> Result<()> {
    let bench = Bench::new()?;
    let file = bench.pack("1.2.3")?;
    let bytes = fs::read(&file)?;
    assert_eq!(fs::read(bench.pack("1.2.3")?)?, bytes);
    let bundle = open(&file)?;
    assert_eq!(bundle.index.version, "1.2.3");
    assert_eq!(bundle.index.images, ["coxswain.local/pause:1"]);
    let paths: Vec<&str> = bundle.index.files.iter().map(|m| m.path.as_str()).collect();
    assert!(paths.contains(&"bin/etcd") && paths.contains(&"units/kubelet.service"), "{paths:?}");
    Ok(())
}

#[test]
fn damage_names_the_file() -> Result<()> {
    let bench = Bench::new()?;
    let file = bench.pack("1.0")?;
    // Another kubelet behind the same index: written by packing anew and exchanging the index.
    let index = open(&file)?.index;
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        File::create(bench.at("forged"))?,
        flate2::Compression::fast(),
    ));
    let text = serde_json::to_vec(&index)?;
    let mut put = |name: &str, data: &[u8]| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        Ok(archive.append_data(&mut header, name, data)?)
    };
    put(INDEX, &text)?;
    put("bin/kubelet", b"evil")?;
    archive.into_inner()?.finish()?;
    let error = format!("{:#}", open(&bench.at("forged")).unwrap_err());
    assert!(error.contains("bin/kubelet is damaged: its checksum is"), "{error}");
    let whole = fs::read(&file)?;
    for cut in [whole.len() / 2, whole.len() - 200, 10, 0] {
        fs::write(bench.at("cut"), whole.get(..cut).unwrap_or_default())?;
        let error = format!("{:#}", open(&bench.at("cut")).unwrap_err());
        assert!(
            ["cut off", "missing", "damaged", "empty", "not a bundle"].iter().any(|w| error.contains(w)),
            "{error}"
        );
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    fs::write(bench.at("flipped"), flipped)?;
    let error = format!("{:#}", open(&bench.at("flipped")).unwrap_err());
    assert!(error.contains("bin/") || error.contains("units/") || error.contains("images/"), "{error}");
    fs::write(bench.at("text"), "hello")?;
    assert!(open(&bench.at("text")).is_err());
    Ok(())
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (path, want) in [
        ("bin/kubelet", true),
        ("units/a.service", true),
        ("bin/../../etc/passwd", false),
        ("/bin/sh", false),
        ("bin/.hidden", false),
        ("etc/passwd", false),
        ("bin", false),
        ("bin/a/b", false),
        ("bin//a", false),
    ] {
        assert_eq!(is_member(path), want, "{path}");
    }
    for (version, want) in [("0.1.0", true), ("1.0-rc.1+b", true), ("", false), ("..", false), ("a/b", false)]
    {
        assert_eq!(is_version(version), want, "{version}");
    }
}

#[test]
fn installs_whole_switches_and_mends() -> Result<()> {
    let bench = Bench::new()?;
    let (versions, current) = (bench.at("lib/versions"), bench.at("lib/current"));
    let mut made = bench.made()?;
    let old = open(&bench.pack("1.0")?)?;
    let place = install::install_in(&versions, &old, &mut made)?;
    assert_eq!(place, versions.join("1.0"));
    assert_eq!(fs::metadata(place.join("kubelet"))?.permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read(place.join("kubelet"))?, fs::read(bench.at("bin/kubelet"))?);
    assert_eq!(install::switch_in(&current, "1.0", &mut made)?, None);
    fs::write(bench.at("bin/kubelet"), "newer")?;
    let new = open(&bench.pack("1.1")?)?;
    fs::create_dir_all(versions.join(".1.1.partial"))?;
    fs::write(versions.join(".1.1.partial/kubelet"), "half, left by a crash")?;
    install::install_in(&versions, &new, &mut made)?;
    assert_eq!(install::switch_in(&current, "1.1", &mut made)?.as_deref(), Some("1.0"));
    assert_eq!(fs::read_to_string(current.join("kubelet"))?, "newer");
    assert_eq!(install::switch_in(&current, "1.0", &mut made)?.as_deref(), Some("1.1"));
    assert!(install::switch_in(&current, "2.0", &mut made).is_err());
    fs::write(versions.join("1.1/kubelet"), "broken")?;
    install::install_in(&versions, &new, &mut made)?;
    assert_eq!(fs::read_to_string(versions.join("1.1/kubelet"))?, "newer");
    assert_eq!(crate::files::names(&versions)?, ["1.0", "1.1"]);
    assert!(made.contains(&versions.join("1.1/kubelet")) && made.contains(&current));
    Ok(())
}

#[test]
fn a_missing_program_is_named() -> Result<()> {
    let bench = Bench::new()?;
    fs::remove_file(bench.at("bin/kube-proxy"))?;
    let error = format!("{:#}", bench.pack("1.0").unwrap_err());
    assert!(error.contains("kube-proxy is missing in"), "{error}");
    Ok(())
}
