//! The `-o` flag.

use clap::Args;
use serde_json::{Value, json};

use super::columns::Columns;
use super::jsonpath::JsonPath;
use super::tab::TabWriter;
use super::{json as json_text, yaml};
use crate::{Error, Kind, Result};

/// Names of formats, as the error for an unknown one lists them.
pub const ALL_FORMATS: &[&str] = &[
    "custom-columns",
    "custom-columns-file",
    "go-template",
    "go-template-file",
    "json",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
    "kyaml",
    "name",
    "template",
    "templatefile",
    "wide",
    "yaml",
];
/// The formats of verbs that print objects but no tables.
pub const OBJECT_FORMATS: &[&str] = &[
    "go-template",
    "go-template-file",
    "json",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
    "kyaml",
    "name",
    "template",
    "templatefile",
    "yaml",
];

/// The flags that choose a printer.
#[derive(Args, Clone, Debug, Default)]
pub struct PrintArgs {
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Template string or path to template file to use when -o=go-template, -o=go-template-file
    #[arg(long)]
    pub template: Option<String>,
    /// If true, ignore any errors in templates when a field or map key is missing in the template
    #[arg(long = "allow-missing-template-keys", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allow_missing_template_keys: bool,
    /// If true, keep the managedFields when printing objects in JSON or YAML format
    #[arg(long = "show-managed-fields")]
    pub show_managed_fields: bool,
}

/// A parsed `-o`.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tables; what no `-o` means.
    Human,
    Wide,
    Json,
    Yaml,
    Kyaml,
    Name,
    JsonPath(JsonPath),
    JsonPathAsJson(JsonPath),
    Columns(Columns),
    GoTemplate(super::gotemplate::Template),
}

impl PrintArgs {
    /// The printer these flags name; `allowed` are the verb's formats.
    pub fn output(&self, allowed: &[&str]) -> Result<Output> {
        let given = self.output.clone().unwrap_or_default();
        let template = self.template.clone().filter(|template| !template.is_empty());
        if given.is_empty() && template.is_none() {
            return Ok(Output::Human);
        }
        let (format, argument) = match given.split_once('=') {
            Some((format, argument)) => (format.to_string(), Some(argument.to_string())),
            None if given.is_empty() => ("go-template".to_string(), template.clone()),
            None => (given.clone(), template),
        };
        if !allowed.contains(&format.as_str())
            || (argument.is_some() && given.contains('=') && !takes_argument(&format))
        {
            return Err(unknown(&given, allowed));
        }
        self.build(&format, argument, &given, allowed)
    }

    fn build(&self, format: &str, argument: Option<String>, given: &str, allowed: &[&str]) -> Result<Output> {
        let path = |text: String| -> Result<JsonPath> {
            let mut path = JsonPath::parse(&text)?;
            path.allow_missing = self.allow_missing_template_keys;
            Ok(path)
        };
        let needed = || match format {
            "custom-columns" | "custom-columns-file" => {
                Error::message("custom-columns format specified but no custom columns given")
            }
            _ => Error::message("template format specified but no template given"),
        };
        let text = || argument.clone().filter(|text| !text.is_empty()).ok_or_else(needed);
        Ok(match format {
            "json" => Output::Json,
            "yaml" => Output::Yaml,
            "kyaml" => Output::Kyaml,
            "name" => Output::Name,
            "wide" => Output::Wide,
            "jsonpath" => Output::JsonPath(path(text()?)?),
            "jsonpath-as-json" => Output::JsonPathAsJson(path(text()?)?),
            "jsonpath-file" => Output::JsonPath(path(read(&text()?)?)?),
            "custom-columns" => Output::Columns(Columns::parse(&text()?)?),
            "custom-columns-file" => {
                Output::Columns(Columns::parse_file(&read(&text()?).map_err(|error| {
                    Error::message(error.to_string().replacen("--template", "template", 1))
                })?)?)
            }
            "go-template" | "template" => Output::GoTemplate(super::gotemplate::Template::parse(&text()?)?),
            "go-template-file" | "templatefile" => {
                Output::GoTemplate(super::gotemplate::Template::parse(&read(&text()?)?)?)
            }
            _ => return Err(unknown(given, allowed)),
        })
    }

    /// A printer of objects, where `-o` asks for one; none for human output.
    pub fn printer(&self, allowed: &[&str]) -> Result<Option<Printer>> {
        Ok(match self.output(allowed)? {
            Output::Human => None,
            output => Some(Printer::new(output, self.show_managed_fields)),
        })
    }
}

fn takes_argument(format: &str) -> bool {
    !matches!(format, "json" | "yaml" | "kyaml" | "name" | "wide")
}

fn unknown(given: &str, allowed: &[&str]) -> Error {
    let formats = allowed.join(",");
    Error::message(format!(
        "unable to match a printer suitable for the output format {given:?}, allowed formats are: {formats}"
    ))
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| {
        Error::message(format!(
            "error reading --template {path}, open {path}: {}",
            crate::files::os_text(&cause)
        ))
    })
}

/// Prints objects one after another to standard output.
#[derive(Clone, Debug)]
pub struct Printer {
    output: Output,
    show_managed_fields: bool,
    count: usize,
    no_headers: bool,
}

impl Printer {
    pub fn new(output: Output, show_managed_fields: bool) -> Printer {
        Printer { output, show_managed_fields, count: 0, no_headers: false }
    }

    /// Leaves the header of custom columns out.
    pub fn without_headers(mut self, without: bool) -> Printer {
        self.no_headers = without;
        self
    }

    /// Whether `-o name` was asked for.
    pub fn is_name(&self) -> bool {
        matches!(self.output, Output::Name)
    }

    /// Prints an object (or a List). `kind` is what `-o name` calls it; without one the object's own kind says.
    pub fn print(&mut self, object: &Value, kind: Option<&Kind>) -> Result<()> {
        let text = self.text(object, kind)?;
        crate::out::put(&text);
        Ok(())
    }

    /// What [`Printer::print`] would print.
    pub fn text(&mut self, object: &Value, kind: Option<&Kind>) -> Result<String> {
        self.count += 1;
        Ok(match &self.output {
            Output::Json => json_text::pretty(&self.cleaned(object)) + "\n",
            Output::Yaml => self.separated(yaml::document(&self.cleaned(object))),
            Output::Kyaml => super::kyaml::document(&self.cleaned(object)),
            Output::Name => names(object, kind),
            Output::JsonPath(path) => path.fill(object)?,
            Output::JsonPathAsJson(path) => path.fill_json(object)?,
            Output::Columns(columns) => self.columns(columns, object)?,
            Output::GoTemplate(template) => template.fill(object)?,
            Output::Human | Output::Wide => String::new(),
        })
    }

    fn cleaned(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if !self.show_managed_fields {
            hide_managed_fields(&mut object);
        }
        object
    }

    fn separated(&self, text: String) -> String {
        if self.count > 1 { format!("---\n{text}") } else { text }
    }

    fn columns(&self, columns: &Columns, object: &Value) -> Result<String> {
        let mut out = TabWriter::remembering();
        if self.count == 1 && !self.no_headers {
            columns.header(&mut out);
        }
        match object["items"].as_array().filter(|_| is_list(object)) {
            Some(items) => items.iter().try_for_each(|item| columns.row(item, &mut out))?,
            None => columns.row(object, &mut out)?,
        }
        Ok(out.flush())
    }
}

fn is_list(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && object["items"].is_array()
}

fn names(object: &Value, kind: Option<&Kind>) -> String {
    if is_list(object) {
        return object["items"].as_array().into_iter().flatten().map(|item| names(item, None)).collect();
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let printed = kind.map_or_else(|| own_kind(object), Kind::printed);
    format!("{printed}/{name}\n")
}

/// `deployment.apps` from an object's `apiVersion` and `kind`.
pub fn own_kind(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    match object["apiVersion"].as_str().and_then(|version| version.split_once('/')) {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

/// Takes `metadata.managedFields` out of an object or a list's items.
pub fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if is_list(object) {
        object
            .get_mut("items")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(hide_managed_fields);
    }
}

/// Several objects as one `List`.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}})
}

/// How a dry run was made, for messages.
pub fn dry_run_suffix(dry_run: Option<&str>) -> &'static str {
    match dry_run {
        Some("client") => " (dry run)",
        Some("server") => " (server dry run)",
        _ => "",
    }
}

/// Says what was done to an object: `deployment.apps/x created (server dry run)`. Under `-o name` only the name.
pub fn done(kind: &Kind, name: &str, what: &str, dry_run: Option<&str>) -> String {
    format!("{}/{name} {what}{}\n", kind.printed(), dry_run_suffix(dry_run))
}
