//! Members of etcd: added as learners, promoted, removed; every step safe to repeat.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Client, MemberAddOptions};

use super::client::{CALL, within};
use crate::say;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// A member as the others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peers: Vec<String>,
    /// Where clients reach it.
    pub clients: Vec<String>,
    /// Does not vote yet.
    pub learner: bool,
}

/// All members.
///
/// # Errors
/// Those of the call.
pub async fn list(client: &mut Client) -> Result<Vec<Member>> {
    let answer = within(CALL, client.member_list()).await.context("listing the members of etcd")?;
    Ok(answer.members().iter().map(member).collect())
}

fn member(m: &etcd_client::Member) -> Member {
    Member {
        id: m.id(),
        name: m.name().into(),
        peers: m.peer_urls().to_vec(),
        clients: m.client_urls().to_vec(),
        learner: m.is_learner(),
    }
}

/// What etcd is to be told of its peers: names and URLs; one that never started is known by its id, ourselves by `name`.
pub fn peers(members: &[Member], own_url: &str, name: &str) -> Vec<(String, String)> {
    let one = |m: &Member| {
        let own = m.peers.iter().any(|u| u == own_url);
        let called = match (own, m.name.is_empty()) {
            (true, _) => name.to_string(),
            (false, true) => format!("{:x}", m.id),
            (false, false) => m.name.clone(),
        };
        m.peers.iter().map(|u| (called.clone(), u.clone())).collect::<Vec<_>>()
    };
    members.iter().flat_map(one).collect()
}

/// May it succeed later? Another learner is on its way, or the cluster is settling.
fn passing(error: &str) -> bool {
    const WORDS: [&str; 9] = [
        "too many learner members",
        "unhealthy cluster",
        "not enough started members",
        "in sync with leader",
        "leader changed",
        "no leader",
        "not leader",
        "timed out",
        "no answer",
    ];
    WORDS.iter().any(|w| error.contains(w)) || error.contains("transport error") || error.contains("connect")
}

/// Makes `url` a member, as a learner; true when it was not one before. Waits while another learner is on its way.
///
/// # Errors
/// When it could not be added within `limit`.
pub async fn add_learner(client: &mut Client, url: &str, limit: Duration) -> Result<bool> {
    let (mut pause, end, mut said) = (FIRST_PAUSE, Instant::now() + limit, false);
    loop {
        let members = list(client).await;
        if members.as_ref().is_ok_and(|m| m.iter().any(|m| m.peers.iter().any(|u| u == url))) {
            return Ok(false);
        }
        let options = MemberAddOptions::new().with_is_learner();
        let error = match within(CALL, client.member_add([url], Some(options))).await {
            Ok(_) => return Ok(true),
            Err(error) => error,
        };
        let words = format!("{error:#}");
        if words.contains("already") {
            continue;
        }
        if !passing(&words) || Instant::now() > end {
            return Err(error).with_context(|| blocked(members.unwrap_or_default()));
        }
        if !said {
            say::line("etcd", format_args!("Waiting to become a member: {words}"));
            said = true;
        }
        say::detail(format_args!("[etcd] {words}; trying again"));
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

fn blocked(members: Vec<Member>) -> String {
    let learner = members.into_iter().find(|m| m.learner);
    match learner {
        Some(m) => format!(
            "etcd takes no new member while {} ({}) is a learner; if that machine is gone, run \"coxctl etcd member remove {}\" on a control plane",
            if m.name.is_empty() { "one that never started" } else { &m.name },
            m.peers.join(","),
            if m.name.is_empty() { format!("{:x}", m.id) } else { m.name.clone() },
        ),
        None => "etcd takes no new member; is one of its members down? (\"coxctl etcd member list\")".into(),
    }
}

/// Makes the learner at `url` a voter, once it has caught up; fine when it is one.
///
/// # Errors
/// When it does not start or catch up within `limit`.
pub async fn promote(client: &mut Client, url: &str, limit: Duration) -> Result<()> {
    let (mut pause, end) = (FIRST_PAUSE, Instant::now() + limit);
    loop {
        let error = match promote_once(client, url).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !passing(&format!("{error:#}")) || Instant::now() > end {
            return Err(error).with_context(|| format!("making {url} a voting member of etcd"));
        }
        say::detail(format_args!("[etcd] {error:#}; trying again"));
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

async fn promote_once(client: &mut Client, url: &str) -> Result<()> {
    let members = list(client).await?;
    let own = members.iter().find(|m| m.peers.iter().any(|u| u == url));
    let own = own.with_context(|| format!("{url} is no member any more"))?;
    match own.learner {
        true => within(CALL, client.member_promote(own.id)).await.map(drop),
        false => Ok(()),
    }
}

/// The one member of this name or id (in hex).
///
/// # Errors
/// When there is none or several.
pub fn find<'a>(members: &'a [Member], who: &str) -> Result<&'a Member> {
    let id = u64::from_str_radix(who, 16).ok();
    let found: Vec<&Member> = members.iter().filter(|m| m.name == who || Some(m.id) == id).collect();
    match found[..] {
        [one] => Ok(one),
        [] => bail!("no member of etcd is named {who:?}; there are {}", names(members)),
        _ => bail!("several members of etcd are named {who:?}; give the id"),
    }
}

fn names(members: &[Member]) -> String {
    members.iter().map(|m| format!("{} ({:x})", m.name, m.id)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member { id, name: name.into(), peers: vec![url.into()], clients: Vec::new(), learner: false }
    }

    #[test]
    fn peers_are_named() {
        let members = [
            member(1, "a", "https://a:2380"),
            member(0xab, "", "https://b:2380"),
            member(3, "", "https://c:2380"),
        ];
        let got = peers(&members, "https://c:2380", "c");
        let want = [("a", "https://a:2380"), ("ab", "https://b:2380"), ("c", "https://c:2380")];
        assert_eq!(got, want.map(|(n, u)| (n.to_string(), u.to_string())));
    }

    #[test]
    fn members_are_found_by_name_or_id() {
        let members = [member(0xa1, "a", "x"), member(0xb2, "b", "y")];
        assert_eq!(find(&members, "b").unwrap().id, 0xb2);
        assert_eq!(find(&members, "a1").unwrap().name, "a");
        assert!(find(&members, "c").unwrap_err().to_string().contains("there are a (a1), b (b2)"));
    }

    #[test]
    fn some_refusals_pass() {
        assert!(passing("etcdserver: too many learner members in cluster"));
        assert!(passing("etcdserver: can only promote a learner member which is in sync with leader"));
        assert!(!passing("etcdserver: permission denied"));
    }
}
