//! The parts put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use daemon::account::Account;
use daemon::delegated::Delegated;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;

use crate::api::Api;
use crate::flags::Flags;
use crate::kubelet::Kubelets;
use crate::metrics::Metrics;
use crate::scrape::Scraper;
use crate::store::Store;
use crate::watch::{self, Seen};

const USER_AGENT: &str = concat!("metrics-server/", env!("CARGO_PKG_VERSION"));
const DRAIN: Duration = Duration::from_secs(2);

/// Scrapes and serves until told to stop.
///
/// # Errors
/// When a file can't be read or the port can't be had.
pub async fn run(flags: Flags) -> Result<()> {
    daemon::init_crypto();
    let account = Account::find(flags.kubeconfig.as_deref())?;
    let client = account.client(USER_AGENT).await?;
    let tls = serving_certificate(&flags)?;
    let tasks = Tasks::new(daemon::signal::shutdown());
    daemon::notify::serving(tasks.token());
    let seen = Seen::start(&client, &flags.node_selector, &tasks);
    let (authorities, _watching) = watch::authorities(&client, &tasks);
    let store = Arc::new(Store::new(flags.metric_resolution));
    let metrics = Metrics::new(daemon::metrics::Metrics::new());
    let kubelets = Kubelets::new(&flags, account)?;
    let scraper =
        Scraper::new(kubelets, seen.clone(), store.clone(), metrics.clone(), flags.metric_resolution);
    tasks.spawn("scraper", scraper.clone().run());
    let guard = Delegated::new(client).judging(authorities.clone());
    let api = Arc::new(Api { seen, store, scraper, metrics, guard, authorities });
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let serving = Serving::new(address, Some(tls)).route("/", api.handler());
    let served = serving.run(tasks.token().clone()).await;
    tasks.drain(DRAIN).await;
    served
}

/// From the files named, else from the directory, else made here and now.
fn serving_certificate(flags: &Flags) -> Result<ServerTls> {
    let given = flags.tls_cert_file.clone().zip(flags.tls_private_key_file.clone());
    let inside = || (flags.cert_dir.join("apiserver.crt"), flags.cert_dir.join("apiserver.key"));
    let there = |(cert, key): &(PathBuf, PathBuf)| cert.exists() && key.exists();
    let files = given.or_else(|| Some(inside()).filter(there));
    ServerTls::asking(files.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())), "localhost")
}
