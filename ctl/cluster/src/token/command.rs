//! `token create|list|delete|generate`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use coxctl_config::{ClusterConfiguration, split_host_port};
use coxctl_pki::token::{Token, check_group, is_id};
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Client, Error};
use serde_json::{Value, json};

use super::secret::{self, Entry, NAMESPACE, TYPE};
use crate::joinline::JoinLine;
use crate::{api, clusterinfo, paths};

/// Bootstrap tokens
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Create bootstrap tokens on the server
    Create(CreateArgs),
    /// List bootstrap tokens on the server
    List {
        #[command(flatten)]
        access: Access,
        /// text, json or yaml
        #[arg(short, long, default_value = "text")]
        output: String,
    },
    /// Delete bootstrap tokens on the server
    Delete {
        /// Tokens or their ids
        #[arg(required = true)]
        tokens: Vec<String>,
        #[command(flatten)]
        access: Access,
    },
    /// Generate and print a bootstrap token, but do not create it on the server
    Generate,
}

/// How the API server is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Access {
    /// Kubeconfig to use [default: $KUBECONFIG, ~/.kube/config, /etc/kubernetes/admin.conf]
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// Flags of `token create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The token [default: a new one]
    pub token: Option<String>,
    #[command(flatten)]
    pub access: Access,
    /// Configuration file, for the control plane's endpoint
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Life of the token; 0 is for ever
    #[arg(long, default_value = "24h0m0s")]
    pub ttl: String,
    /// What it may be used for
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
    pub usages: Vec<String>,
    /// Groups its bearer is in
    #[arg(long, value_delimiter = ',', default_value = paths::BOOTSTRAPPERS)]
    pub groups: Vec<String>,
    /// What it is for, in words
    #[arg(long, default_value = "")]
    pub description: String,
    /// Print the whole join command
    #[arg(long)]
    pub print_join_command: bool,
    /// With --print-join-command: that of a control plane, with this key
    #[arg(long)]
    pub certificate_key: Option<String>,
    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Access {
    /// The kubeconfig to use.
    ///
    /// # Errors
    /// When there is none.
    pub fn path(&self) -> Result<PathBuf> {
        let named = self.kubeconfig.clone().into_iter();
        let listed = std::env::var_os("KUBECONFIG").map(|v| std::env::split_paths(&v).collect::<Vec<_>>());
        let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".kube/config"));
        let mut places = named.chain(listed.unwrap_or_default()).chain(home).chain([paths::ADMIN.into()]);
        places
            .find(|p| p.exists() || self.kubeconfig.as_ref() == Some(p))
            .context("no kubeconfig is given or found; use --kubeconfig")
    }

    /// A client.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn client(&self) -> Result<Client> {
        api::client(&self.path()?, None).await
    }
}

/// Runs a token command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub async fn run(command: TokenCommand) -> Result<i32> {
    match command {
        TokenCommand::Generate => println!("{}", Token::generate()),
        TokenCommand::Create(args) => create(args).await?,
        TokenCommand::Delete { tokens, access } => delete(&access.client().await?, &tokens).await?,
        TokenCommand::List { access, output } => list(&access.client().await?, &output).await?,
    }
    Ok(0)
}

async fn create(args: CreateArgs) -> Result<()> {
    let entry = wanted(&args, Timestamp::now())?;
    let path = args.access.path()?;
    let client = api::client(&path, None).await?;
    if !args.dry_run {
        let made = api::dynamic(&client, "v1", "Secret", Some(NAMESPACE));
        let object = serde_json::from_value(entry.object())?;
        match made.create(&Default::default(), &object).await {
            Err(Error::Api(s)) if s.code == 409 => {
                anyhow::bail!("a token with id {:?} already exists", entry.token.id);
            }
            other => other.map(drop).map_err(api::plain).context("creating the token")?,
        }
    }
    match args.print_join_command {
        true => println!("{}", join_line(&client, &path, &entry.token, args.certificate_key).await?.line()),
        false => println!("{}", entry.token),
    }
    Ok(())
}

fn wanted(args: &CreateArgs, now: Timestamp) -> Result<Entry> {
    ensure!(
        args.certificate_key.is_none() || args.print_join_command,
        "--certificate-key can only be used with --print-join-command"
    );
    for usage in &args.usages {
        ensure!(
            matches!(usage.as_str(), "signing" | "authentication"),
            "invalid bootstrap token usage string: {usage:?}, valid usage options: [signing authentication]"
        );
    }
    args.groups.iter().filter(|g| !g.is_empty()).try_for_each(|g| check_group(g))?;
    let life = crate::args::duration("--ttl", &args.ttl)?;
    Ok(Entry {
        token: args.token.as_deref().map_or_else(|| Ok(Token::generate()), Token::parse)?,
        description: args.description.clone(),
        expires: secret::expiry(Some(SignedDuration::from_nanos(life.0)), now),
        usages: args.usages.clone(),
        groups: args.groups.iter().filter(|g| !g.is_empty()).cloned().collect(),
    })
}

/// The join command for a token: endpoint and authority from the kubeconfig in use, but the cluster's common endpoint if
/// it has one.
///
/// # Errors
/// When the kubeconfig names no server.
pub async fn join_line(
    client: &Client,
    path: &std::path::Path,
    token: &Token,
    key: Option<String>,
) -> Result<JoinLine> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let own = clusterinfo::cluster_of(&text)?;
    let server = shared_endpoint(client).await.unwrap_or_else(|| crate::discovery::address_of(&own.server));
    Ok(JoinLine {
        endpoint: server,
        token: token.to_string(),
        hashes: coxctl_pki::ca_hashes(&own.ca_pem)?,
        certificate_key: key,
    })
}

/// controlPlaneEndpoint, else the server cluster-info names.
async fn shared_endpoint(client: &Client) -> Option<String> {
    let map = api::get(client, "ConfigMap", Some("kube-system"), "kubeadm-config").await.ok()?;
    let text = map["data"]["ClusterConfiguration"].as_str()?;
    let cluster: ClusterConfiguration = serde_yaml::from_str(text).ok()?;
    if !cluster.control_plane_endpoint.is_empty() {
        let (host, port) = split_host_port(&cluster.control_plane_endpoint);
        return Some(coxctl_config::join_host_port(host, port.unwrap_or(6443)));
    }
    let info = api::get(client, "ConfigMap", Some("kube-public"), "cluster-info").await.ok()?;
    let found = clusterinfo::cluster_of(info["data"]["kubeconfig"].as_str()?).ok()?;
    Some(crate::discovery::address_of(&found.server))
}

async fn delete(client: &Client, tokens: &[String]) -> Result<()> {
    for text in tokens {
        let id = if is_id(text) { text.clone() } else { Token::parse(text)?.id };
        let secrets = api::dynamic(client, "v1", "Secret", Some(NAMESPACE));
        match secrets.delete(&secret::name(&id), &Default::default()).await {
            Err(Error::Api(s)) if s.code == 404 => anyhow::bail!("no bootstrap token has the id {id:?}"),
            other => drop(
                other
                    .map_err(api::plain)
                    .with_context(|| format!("failed to delete bootstrap token {id:?}"))?,
            ),
        }
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

async fn list(client: &Client, output: &str) -> Result<()> {
    let params = ListParams::default().fields(&format!("type={TYPE}"));
    let found = api::dynamic(client, "v1", "Secret", Some(NAMESPACE)).list(&params).await?;
    let mut entries = Vec::new();
    for object in found {
        match Entry::read(&serde_json::to_value(object)?) {
            Ok(entry) => entries.push(entry),
            Err(error) => eprintln!("{error}"),
        }
    }
    let now = Timestamp::now();
    match output {
        "text" => print!("{}", table(&entries, now)),
        "json" => entries.iter().for_each(|e| println!("{:#}", document(e))),
        "yaml" => entries
            .iter()
            .for_each(|e| print!("---\n{}", serde_yaml::to_string(&document(e)).unwrap_or_default())),
        other => anyhow::bail!("unknown output format {other:?}; want text, json or yaml"),
    }
    Ok(())
}

fn document(e: &Entry) -> Value {
    let mut value = json!({"apiVersion": "output.kubeadm.k8s.io/v1alpha3", "kind": "BootstrapToken",
        "token": e.token.to_string(), "usages": e.usages, "groups": e.groups});
    if !e.description.is_empty() {
        value["description"] = json!(e.description);
    }
    if let Some(at) = e.expires {
        value["expires"] = json!(secret::seconds(at));
    }
    value
}

const HEADER: [&str; 6] = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];

fn table(entries: &[Entry], now: Timestamp) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEADER.map(str::to_string)];
    rows.extend(entries.iter().map(|e| row(e, now)));
    crate::table::render(&rows)
}

fn row(e: &Entry, now: Timestamp) -> [String; 6] {
    let or = |text: String, empty: &str| if text.is_empty() { empty.to_string() } else { text };
    let (ttl, expires) = match e.expires {
        Some(at) if at > now => (crate::table::age(at.duration_since(now)), secret::seconds(at)),
        Some(at) => ("<invalid>".into(), secret::seconds(at)),
        None => ("<forever>".into(), "<never>".into()),
    };
    [
        e.token.to_string(),
        ttl,
        expires,
        or(e.usages.join(","), "<none>"),
        or(e.description.clone(), "<none>"),
        or(e.groups.join(","), "<none>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_how_long() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        let text = table(&[Entry::usual(token, Some(SignedDuration::from_hours(24)), now)], now);
        let want = "\
TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION                                                EXTRA GROUPS
abcdef.0123456789abcdef   24h         2026-01-02T00:00:00Z   signing,authentication   <none>                                                     system:bootstrappers:kubeadm:default-node-token
";
        let squeeze = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&text), squeeze(want));
    }
}
