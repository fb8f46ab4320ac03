//! Reading logs, one after the other or together.

use super::{Logs, Source};
use coxctl_kit::{Cluster, Error, Result, out};
use futures::{AsyncBufRead, AsyncBufReadExt};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a container that is to be followed but doesn't run yet is asked for.
const AGAIN: Duration = Duration::from_secs(1);
/// What is said when `--request-timeout` ends a log.
const CUT: &str = "net/http: request canceled (Client.Timeout or context cancellation while reading body)";

/// Reads all logs to standard output.
///
/// # Errors
/// Too many logs to follow, and what the server says.
pub async fn read(cluster: &Cluster, sources: Vec<Source>, args: &Logs, wait: Duration) -> Result<()> {
    let (count, most) = (sources.len(), args.max_log_requests);
    if args.follow && count > 1 {
        if count > most {
            return Err(Error::message(format!(
                "you are attempting to follow {count} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit"
            )));
        }
        return together(cluster, sources, args, wait).await;
    }
    for source in sources {
        if let Err(error) = copy(cluster, &source, args, wait, None).await {
            forgive(error, args)?;
        }
    }
    Ok(())
}

fn forgive(error: Error, args: &Logs) -> Result<()> {
    if !args.ignore_errors {
        return Err(error);
    }
    out::line(&format!("error: {error}"));
    Ok(())
}

/// Follows logs at the same time; lines stay whole.
async fn together(cluster: &Cluster, sources: Vec<Source>, args: &Logs, wait: Duration) -> Result<()> {
    let (sender, mut lines) = mpsc::channel::<Result<Vec<u8>>>(64);
    for source in sources {
        let (cluster, args, sender) = (cluster.clone(), args.clone(), sender.clone());
        tokio::spawn(async move {
            if let Err(error) = copy(&cluster, &source, &args, wait, Some(&sender)).await {
                let _ = sender.send(Err(error)).await;
            }
        });
    }
    drop(sender);
    while let Some(line) = lines.recv().await {
        match line {
            Ok(line) => out::put_bytes(&line),
            Err(error) => forgive(error, args)?,
        }
    }
    Ok(())
}

/// Copies a log line by line, to standard output or to a channel. A container that is to be followed is waited for while
/// it starts.
async fn copy(
    cluster: &Cluster,
    source: &Source,
    args: &Logs,
    wait: Duration,
    to: Option<&mpsc::Sender<Result<Vec<u8>>>>,
) -> Result<()> {
    let end = tokio::time::Instant::now() + wait;
    let reader = loop {
        match cluster.stream(source.call.clone()).await {
            Ok(reader) => break reader,
            Err(error) if args.follow && starts(&error) && tokio::time::Instant::now() < end => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    let copied = lines(reader, &source.prefix, to);
    match cluster.deadline {
        Some(limit) => tokio::time::timeout(limit, copied).await.unwrap_or_else(|_| Err(Error::message(CUT))),
        None => copied.await,
    }
}

async fn lines(
    mut reader: impl AsyncBufRead + Unpin,
    prefix: &str,
    to: Option<&mpsc::Sender<Result<Vec<u8>>>>,
) -> Result<()> {
    let mut line = prefix.as_bytes().to_vec();
    loop {
        line.truncate(prefix.len());
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(()),
            Ok(_) => match to {
                None => out::put_bytes(&line),
                Some(to) if to.send(Ok(line.clone())).await.is_err() => return Ok(()),
                Some(_) => {}
            },
            Err(cause) => return Err(Error::message(cause.to_string())),
        }
    }
}

fn starts(error: &Error) -> bool {
    error.is("BadRequest") && error.to_string().contains("is waiting to start")
}
