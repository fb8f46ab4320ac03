//! Kubeconfig files as documents: read, merged, changed where a thing is defined, written safely.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use coxctl_kit::print::yaml;
use coxctl_kit::{Error, Globals, Result, files, kubeconfig};
use serde_json::{Map, Value, json};

/// The sections of a kubeconfig, and what their entries hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Clusters,
    Users,
    Contexts,
}

impl Section {
    /// Its key in the file, and the key of an entry's body.
    pub fn keys(self) -> (&'static str, &'static str) {
        match self {
            Section::Clusters => ("clusters", "cluster"),
            Section::Users => ("users", "user"),
            Section::Contexts => ("contexts", "context"),
        }
    }
}

/// The files that count, each as it is on disk.
pub struct Store {
    files: Vec<(PathBuf, Option<Value>)>,
}

impl Store {
    /// Reads all files; those that don't exist count as empty.
    pub fn load(globals: &Globals) -> Result<Store> {
        let read = |path: PathBuf| Ok((path.clone(), read(&path)?));
        Ok(Store { files: kubeconfig::files(globals).into_iter().map(read).collect::<Result<_>>()? })
    }

    /// The file new things go to: the first that exists, else the last.
    pub fn default_file(&self) -> PathBuf {
        let existing = self.files.iter().find(|(_, document)| document.is_some());
        existing.or(self.files.last()).map(|(path, _)| path.clone()).unwrap_or_default()
    }

    /// All files as one document; the first that names a thing wins.
    pub fn merged(&self) -> Value {
        merge(self.files.iter().filter_map(|(_, document)| document.clone()))
    }

    /// The same, with the names of files made absolute: they are relative to the kubeconfig that holds them.
    pub fn merged_absolute(&self) -> Value {
        merge(self.files.iter().filter_map(|(path, document)| Some(absolute(document.clone()?, path))))
    }

    /// The body of an entry of the merged files.
    pub fn body(&self, section: Section, wanted: &str) -> Option<Value> {
        find(&self.merged(), section, wanted).map(|entry| entry[section.keys().1].clone())
    }

    /// Changes the body of an entry in the file that defines it, or makes it in the default file. Whether it was there.
    pub fn change(
        &mut self,
        section: Section,
        wanted: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<bool> {
        let at = self.files.iter().position(|(_, document)| {
            document.as_ref().is_some_and(|document| find(document, section, wanted).is_some())
        });
        let file = at.unwrap_or_else(|| self.default_index());
        let document = self.document(file)?;
        let (list, body) = section.keys();
        if at.is_none() {
            push(document, section, json!({"name": wanted, body: {}}));
        }
        let entry = document[list].as_array_mut().into_iter().flatten().find(|entry| name(entry) == wanted);
        if let Some(entry) = entry {
            if !entry[body].is_object() {
                entry[body] = json!({});
            }
            if let Some(map) = entry[body].as_object_mut() {
                change(map);
            }
        }
        self.save(file)?;
        Ok(at.is_some())
    }

    /// Changes a file as a whole: the one that has `key` set, else the default.
    pub fn change_top(&mut self, key: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let set = |document: &Value| document[key].as_str().is_some_and(|text| !text.is_empty());
        let at = self.files.iter().position(|(_, document)| document.as_ref().is_some_and(set));
        let file = at.unwrap_or_else(|| self.default_index());
        change(self.document(file)?);
        self.save(file)
    }

    /// Takes an entry out of the default file; none if it isn't there.
    pub fn remove(&mut self, section: Section, wanted: &str) -> Result<Option<Value>> {
        let file = self.default_index();
        let (list, body) = section.keys();
        let document = self.document(file)?;
        let Some(at) = document[list]
            .as_array()
            .and_then(|entries| entries.iter().position(|entry| name(entry) == wanted))
        else {
            return Ok(None);
        };
        let mut entry = document[list].as_array_mut().map(|entries| entries.remove(at)).unwrap_or_default();
        self.save(file)?;
        Ok(Some(entry[body].take()))
    }

    fn default_index(&self) -> usize {
        let path = self.default_file();
        self.files.iter().position(|(file, _)| *file == path).unwrap_or_default()
    }

    fn document(&mut self, file: usize) -> Result<&mut Value> {
        let slot = self
            .files
            .get_mut(file)
            .ok_or_else(|| Error::message("no kubeconfig file to write to: HOME is not set"))?;
        Ok(slot.1.get_or_insert_with(empty))
    }

    fn save(&mut self, file: usize) -> Result<()> {
        let Some((path, Some(document))) = self.files.get_mut(file) else { return Ok(()) };
        tidy(document);
        write(path, &yaml::document(document))
            .map_err(|cause| Error::message(format!("open {}: {}", path.display(), files::os_text(&cause))))
    }
}

fn merge(documents: impl Iterator<Item = Value>) -> Value {
    let mut all = empty();
    for document in documents {
        for section in [Section::Clusters, Section::Users, Section::Contexts] {
            for entry in document[section.keys().0].as_array().into_iter().flatten() {
                if find(&all, section, name(entry)).is_none() {
                    push(&mut all, section, entry.clone());
                }
            }
        }
        if all["current-context"] == "" {
            all["current-context"] = document.get("current-context").cloned().unwrap_or_else(|| "".into());
        }
    }
    tidy(&mut all);
    all
}

fn absolute(mut document: Value, file: &Path) -> Value {
    let dir = file.parent().unwrap_or(Path::new(""));
    for section in [Section::Clusters, Section::Users] {
        let (list, body) = section.keys();
        for entry in document[list].as_array_mut().into_iter().flatten() {
            for key in ["certificate-authority", "client-certificate", "client-key"] {
                if let Some(path) = entry[body][key].as_str().filter(|path| !path.is_empty()) {
                    entry[body][key] = dir.join(path).display().to_string().into();
                }
            }
        }
    }
    document
}

fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Config", "preferences": {}, "clusters": null, "users": null, "contexts": null, "current-context": ""})
}

fn read(path: &Path) -> Result<Option<Value>> {
    let failed =
        |cause: String| Error::message(format!("error loading config file \"{}\": {cause}", path.display()));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(format!("open {}: {}", path.display(), files::os_text(&cause)))),
    };
    let parsed: serde_yaml::Value =
        serde_yaml::from_str(&text).map_err(|cause| failed(format!("yaml: {cause}")))?;
    let value = files::to_json(parsed).map_err(failed)?;
    Ok(Some(if value.is_object() { value } else { empty() }))
}

/// What every kubeconfig has, entries sorted by name, empty sections null.
fn tidy(document: &mut Value) {
    let Some(map) = document.as_object_mut() else { return };
    for (key, value) in empty().as_object().into_iter().flatten() {
        map.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for section in ["clusters", "users", "contexts"] {
        let Some(list) = map.get_mut(section) else { continue };
        if let Some(entries) = list.as_array_mut() {
            entries.sort_by(|a, b| name(a).cmp(name(b)));
        }
        if list.as_array().is_some_and(Vec::is_empty) {
            *list = Value::Null;
        }
    }
}

/// An entry's name.
pub fn name(entry: &Value) -> &str {
    entry["name"].as_str().unwrap_or_default()
}

/// The entry of a section with a name.
pub fn find<'a>(document: &'a Value, section: Section, wanted: &str) -> Option<&'a Value> {
    document[section.keys().0].as_array()?.iter().find(|entry| name(entry) == wanted)
}

fn push(document: &mut Value, section: Section, entry: Value) {
    let list = &mut document[section.keys().0];
    match list.as_array_mut() {
        Some(entries) => entries.push(entry),
        None => *list = json!([entry]),
    }
}

/// Replaces a file at once; a link is followed, a mode kept. New files are the owner's alone.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Some(dir) = target.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let mode = std::fs::metadata(&target).map(|known| known.permissions().mode() & 0o777).unwrap_or(0o600);
    let mut draft = target.clone().into_os_string();
    draft.push(format!(".{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, target)
}
