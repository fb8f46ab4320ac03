//! `get`: objects as tables, or as `-o` says.

mod everything;
mod follow;
mod human;
mod objects;

use clap::Args;
use coxctl_kit::print::output::ALL_FORMATS;
use coxctl_kit::print::table::TableOptions;
use coxctl_kit::{
    Call, Cluster, Error, FileArgs, Globals, ListOptions, Output, Pick, PrintArgs, Result, Wanted, out,
};

/// The flags of `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// TYPE[.VERSION][.GROUP] [NAME...] or TYPE/NAME...; `everything` means all kinds
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Selector (field query) to filter on
    #[arg(long = "field-selector")]
    pub field_selector: Option<String>,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// With `all`: every kind the server can list, not only those of the category
    #[arg(long = "all-kinds")]
    pub all_kinds: bool,
    /// Return large lists in chunks rather than all at once; 0 to disable
    #[arg(long = "chunk-size", default_value_t = 500)]
    pub chunk_size: u32,
    /// If set to true, suppresses NotFound errors for specific objects that do not exist
    #[arg(long = "ignore-not-found")]
    pub ignore_not_found: bool,
    /// Labels that are going to be presented as columns
    #[arg(short = 'L', long = "label-columns", value_delimiter = ',')]
    pub label_columns: Vec<String>,
    /// When using the default or custom-column output format, don't print headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
    /// When printing, show all labels as the last column
    #[arg(long = "show-labels")]
    pub show_labels: bool,
    /// If present, list the resource type for the requested object(s)
    #[arg(long = "show-kind")]
    pub show_kind: bool,
    /// If non-empty, sort list types using this field specification
    #[arg(long = "sort-by")]
    pub sort_by: Option<String>,
    /// If specified, gets the subresource of the requested object
    #[arg(long)]
    pub subresource: Option<String>,
    /// Raw URI to request from the server
    #[arg(long)]
    pub raw: Option<String>,
    /// If true, have the server return the appropriate table output
    #[arg(long = "server-print", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub server_print: bool,
    /// After listing/getting the requested object, watch for changes
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// Watch for changes to the requested object(s), without listing/getting first
    #[arg(long = "watch-only")]
    pub watch_only: bool,
    /// Output watch event objects when --watch or --watch-only is used
    #[arg(long = "output-watch-events")]
    pub output_watch_events: bool,
}

const NOTHING_NAMED: &str = "Required resource not specified.\nUse \"coxctl explain <resource>\" for a detailed description of that resource (e.g. coxctl explain pods).\nSee 'coxctl get -h' for help and examples";

/// Runs the verb.
pub async fn run(args: &GetArgs, globals: &Globals) -> Result<i32> {
    args.check()?;
    let output = args.print.output(ALL_FORMATS)?;
    let cluster = globals.connect().await?;
    if let Some(path) = &args.raw {
        return raw(&cluster, path).await;
    }
    if args.words.is_empty() && args.files.is_empty() {
        out::note(
            "You must specify the type of resource to get. Use \"coxctl api-resources\" for a complete list of supported resources.\n",
        );
    }
    let (wanted, errors) = args.wanted(&cluster).await?;
    if args.watch || args.watch_only {
        return follow::run(args, &cluster, &output, wanted).await;
    }
    match output {
        Output::Human | Output::Wide => {
            human::run(args, &cluster, matches!(output, Output::Wide), wanted, errors, globals.colours())
                .await
        }
        output => objects::run(args, &cluster, output, wanted, errors).await,
    }
}

async fn raw(cluster: &Cluster, path: &str) -> Result<i32> {
    let answer = cluster.send(Call::get(path).accept("application/json, */*")).await?;
    out::put_bytes(&answer.body);
    Ok(0)
}

impl GetArgs {
    fn check(&self) -> Result<()> {
        if let Some(path) = &self.raw {
            let bad = |text: &str| Err(Error::message(text));
            if self.watch || self.watch_only || self.selector.is_some() {
                return bad(
                    "--raw may not be specified with other flags that filter the server request or alter the output",
                );
            }
            if !self.words.is_empty() || !self.files.is_empty() {
                return bad("arguments may not be passed when --raw is specified");
            }
            if !path.starts_with('/') {
                return Err(Error::message(format!(
                    "--raw must be a valid URL path: parse {path:?}: invalid URI for request"
                )));
            }
        }
        if self.print.show_managed_fields
            && !matches!(self.print.output.as_deref(), Some("json" | "yaml" | "kyaml"))
        {
            // kubectl knows the flag with every format; only these show the fields.
            return Ok(());
        }
        if self.show_labels && !matches!(self.print.output.as_deref(), None | Some("" | "wide")) {
            let format = self.print.output.clone().unwrap_or_default();
            return Err(Error::message(format!("--show-labels option cannot be used with {format} printer")));
        }
        if self.output_watch_events && !self.watch && !self.watch_only {
            return Err(Error::message(
                "--output-watch-events option can only be used with --watch or --watch-only",
            ));
        }
        Ok(())
    }

    async fn wanted(&self, cluster: &Cluster) -> Result<(Vec<Wanted>, Vec<Error>)> {
        if let [word] = self.words.as_slice()
            && (word == "everything" || word == "all" && self.all_kinds)
        {
            return Ok((everything::wanted(cluster, self.all_namespaces).await?, Vec::new()));
        }
        let pick = Pick {
            words: self.words.clone(),
            files: self.files.clone(),
            selector: self.selector.clone(),
            field_selector: self.field_selector.clone(),
            all_namespaces: self.all_namespaces,
            bare_types: true,
            chunk: self.chunk_size,
            nothing_named: Some(NOTHING_NAMED.into()),
            ..Pick::default()
        };
        pick.plan(cluster).await
    }

    fn list_options(&self) -> ListOptions {
        let limit = if self.sort_by.is_some() { 0 } else { self.chunk_size };
        ListOptions {
            labels: self.selector.clone(),
            fields: self.field_selector.clone(),
            limit,
            ..ListOptions::default()
        }
    }

    /// How tables of one kind look.
    fn table_options(&self, wide: bool, namespaced: bool, several: bool) -> TableOptions {
        TableOptions {
            no_headers: self.no_headers,
            wide,
            show_labels: self.show_labels,
            namespace: self.all_namespaces && namespaced,
            kind: self.show_kind || several,
            label_columns: self.label_columns.clone(),
        }
    }
}

/// The kind, namespace and name (none for a list) of a thing to ask for.
pub(crate) fn target(wanted: &Wanted) -> (&coxctl_kit::Kind, Option<&str>, Option<&str>) {
    match wanted {
        Wanted::List { kind, namespace } => (kind, namespace.as_deref(), None),
        Wanted::Named { kind, namespace, name } | Wanted::Given { kind, namespace, name, .. } => {
            (kind, namespace.as_deref(), Some(name))
        }
    }
}
