//! The servers: where they are known from, how they are, and in which order they are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Failures weigh differently; this much makes a server unhealthy.
const UNHEALTHY_FROM: u32 = 3;

/// How a server is. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The last check passed.
    Healthy,
    /// Not checked yet.
    Unknown,
    /// A check failed, which may be a hiccup: new connections go elsewhere, open ones stay.
    Suspect,
    /// Gone or not ready. Its connections are cut as soon as there is a healthy server to go to.
    Unhealthy,
}

/// What a check found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody is there: the connection was refused.
    Refused(String),
    /// No answer in time, or no sense in it.
    Silent(String),
    /// It says itself that it is not ready.
    NotReady(String),
}

impl Fault {
    fn weight(&self) -> u32 {
        match self {
            Fault::Refused(_) => 3,
            Fault::Silent(_) => 2,
            Fault::NotReady(_) => 1,
        }
    }

    fn why(&self) -> &str {
        match self {
            Fault::Refused(why) | Fault::Silent(why) | Fault::NotReady(why) => why,
        }
    }
}

struct Server {
    learned: bool,
    seed: bool,
    state: State,
    weight: u32,
    why: String,
    connections: usize,
    cut: CancellationToken,
    gone: CancellationToken,
    poke: Arc<Notify>,
}

impl Server {
    fn new(parent: &CancellationToken) -> Self {
        Self {
            learned: false,
            seed: false,
            state: State::Unknown,
            weight: 0,
            why: String::new(),
            connections: 0,
            cut: CancellationToken::new(),
            gone: parent.child_token(),
            poke: Arc::default(),
        }
    }
}

/// A server as shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub server: String,
    pub state: State,
    pub learned: bool,
    pub preferred: bool,
    pub connections: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A new server to look after: checks end with `gone`, and are due at once when poked.
pub struct Charge {
    pub name: String,
    pub gone: CancellationToken,
    pub poke: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    prefer: String,
    servers: BTreeMap<String, Server>,
    /// Connections cut so far.
    cut: u64,
}

/// All servers, shared by whoever accepts, checks and learns.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Mutex<Inner>>,
    token: CancellationToken,
}

impl Pool {
    /// No servers. Checks end when `token` is cancelled.
    pub fn new(token: CancellationToken) -> Self {
        Self { inner: Arc::default(), token }
    }

    /// Sets the servers of the configuration. Returns those that are new.
    pub fn configure(&self, prefer: &str, seeds: &[String]) -> Vec<Charge> {
        self.inner.lock().prefer = prefer.to_owned();
        self.replace(seeds, |s| &mut s.seed)
    }

    /// Sets the servers the cluster names. Returns those that are new.
    pub fn learn(&self, servers: &[String]) -> Vec<Charge> {
        self.replace(servers, |s| &mut s.learned)
    }

    fn replace(&self, names: &[String], source: fn(&mut Server) -> &mut bool) -> Vec<Charge> {
        let mut inner = self.inner.lock();
        let names: BTreeSet<&String> = names.iter().collect();
        for (name, server) in &mut inner.servers {
            *source(server) = names.contains(name);
        }
        let mut charges = Vec::new();
        for name in names {
            if !inner.servers.contains_key(name) {
                let server = Server::new(&self.token);
                let (gone, poke) = (server.gone.clone(), server.poke.clone());
                charges.push(Charge { name: name.clone(), gone, poke });
                inner.servers.insert(name.clone(), server);
            }
            if let Some(server) = inner.servers.get_mut(name) {
                *source(server) = true;
            }
        }
        inner.servers.retain(|_, s| {
            let keep = s.learned || s.seed;
            if !keep {
                s.gone.cancel();
            }
            keep
        });
        charges
    }

    /// Servers in the order to try them: by state; the preferred one, then those the cluster names; fewest connections
    /// first, by chance among equals.
    pub fn order(&self) -> Vec<String> {
        let inner = self.inner.lock();
        let key = |(name, s): (&String, &Server)| {
            let strange = (name != &inner.prefer, !s.learned);
            (s.state, strange, s.connections, rand::random::<u32>(), name.clone())
        };
        let mut all: Vec<_> = inner.servers.iter().map(key).collect();
        all.sort();
        all.into_iter().map(|entry| entry.4).collect()
    }

    /// Counts a connection until the lease is dropped. None when the server has just left.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        let mut inner = self.inner.lock();
        let server = inner.servers.get_mut(name)?;
        server.connections += 1;
        Some(Lease { pool: self.clone(), name: name.to_owned(), cut: server.cut.clone() })
    }

    /// Has a server checked at once: it refused a connection.
    pub fn suspect(&self, name: &str) {
        if let Some(server) = self.inner.lock().servers.get(name) {
            server.poke.notify_one();
        }
    }

    /// Takes in a check's outcome. True if the server's state changed.
    pub fn report(&self, name: &str, found: Result<(), Fault>) -> bool {
        let mut inner = self.inner.lock();
        let Some(server) = inner.servers.get_mut(name) else { return false };
        let before = server.state;
        (server.state, server.weight) = judge(before, server.weight, &found);
        server.why = found.err().map(|f| f.why().to_owned()).unwrap_or_default();
        let changed = before != server.state;
        if changed {
            tracing::info!(server = name, state = ?server.state, why = server.why, "server's state changed");
        }
        inner.cut_unhealthy();
        changed
    }

    /// How a server is, and whether it is more than a last resort.
    pub fn state(&self, name: &str) -> Option<(State, bool)> {
        let inner = self.inner.lock();
        let server = inner.servers.get(name)?;
        let nothing_learned = !inner.servers.values().any(|s| s.learned);
        Some((server.state, server.learned || nothing_learned || name == inner.prefer))
    }

    /// All servers, for people.
    pub fn shown(&self) -> Vec<Shown> {
        let inner = self.inner.lock();
        let show = |(name, s): (&String, &Server)| Shown {
            server: name.clone(),
            state: s.state,
            learned: s.learned,
            preferred: *name == inner.prefer,
            connections: s.connections,
            why: s.why.clone(),
        };
        inner.servers.iter().map(show).collect()
    }

    /// Connections cut so far because their server was unhealthy.
    pub fn cuts(&self) -> u64 {
        self.inner.lock().cut
    }
}

impl Inner {
    /// Clients of unhealthy servers are made to come again, if there is a better place for them.
    fn cut_unhealthy(&mut self) {
        if !self.servers.values().any(|s| s.state == State::Healthy) {
            return;
        }
        for (name, server) in &mut self.servers {
            if server.state != State::Unhealthy || server.connections == 0 || server.cut.is_cancelled() {
                continue;
            }
            tracing::info!(
                server = name,
                connections = server.connections,
                "moving clients to a healthy server"
            );
            self.cut += server.connections as u64;
            std::mem::take(&mut server.cut).cancel();
        }
    }
}

/// The state and the failures' weight after a check.
fn judge(state: State, weight: u32, found: &Result<(), Fault>) -> (State, u32) {
    let Err(fault) = found else { return (State::Healthy, 0) };
    let weight = (weight + fault.weight()).min(UNHEALTHY_FROM);
    match weight >= UNHEALTHY_FROM || state == State::Unhealthy {
        true => (State::Unhealthy, weight),
        false => (State::Suspect, weight),
    }
}

/// An open connection to a server.
pub struct Lease {
    pool: Pool,
    name: String,
    cut: CancellationToken,
}

impl Lease {
    /// Cancelled when the client is to look for another server.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// The server.
    pub fn server(&self) -> &str {
        &self.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.pool.inner.lock().servers.get_mut(&self.name) {
            server.connections = server.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefer: &str, seeds: &[&str]) -> Pool {
        let pool = Pool::new(CancellationToken::new());
        let seeds: Vec<String> = seeds.iter().map(|s| (*s).to_owned()).collect();
        pool.configure(prefer, &seeds);
        pool
    }

    fn refused() -> Result<(), Fault> {
        Err(Fault::Refused("refused".into()))
    }

    #[test]
    fn faults_add_up() {
        let silent = || Err(Fault::Silent(String::new()));
        let unready = || Err(Fault::NotReady(String::new()));
        let run = |faults: Vec<Result<(), Fault>>| {
            faults.iter().fold((State::Unknown, 0), |(s, w), f| judge(s, w, f)).0
        };
        assert_eq!(run(vec![refused()]), State::Unhealthy);
        assert_eq!(run(vec![silent()]), State::Suspect);
        assert_eq!(run(vec![silent(), silent()]), State::Unhealthy);
        assert_eq!(run(vec![unready(), unready()]), State::Suspect);
        assert_eq!(run(vec![unready(), unready(), unready()]), State::Unhealthy);
        assert_eq!(run(vec![unready(), silent()]), State::Unhealthy);
        assert_eq!(run(vec![refused(), Ok(())]), State::Healthy);
        assert_eq!(run(vec![refused(), Ok(()), unready()]), State::Suspect);
    }

    #[test]
    fn order_is_state_then_preference_then_load() {
        let pool = pool("own", &["a", "b", "own"]);
        assert_eq!(pool.order()[0], "own");
        pool.learn(&["a".into(), "b".into()]);
        for name in ["a", "b"] {
            pool.report(name, Ok(()));
        }
        assert_eq!(pool.order()[2], "own", "not checked yet");
        pool.report("own", Ok(()));
        let _held = [pool.lease("a"), pool.lease("own")];
        assert_eq!(pool.order(), ["own", "b", "a"]);
        pool.report("own", refused());
        assert_eq!(pool.order(), ["b", "a", "own"]);
    }

    #[test]
    fn seeds_come_after_what_was_learned_and_stay() {
        let pool = pool("", &["seed"]);
        assert_eq!(pool.learn(&["x".into()]).len(), 1);
        for name in ["x", "seed"] {
            pool.report(name, Ok(()));
        }
        assert_eq!(pool.order(), ["x", "seed"]);
        pool.report("x", refused());
        assert_eq!(pool.order(), ["seed", "x"]);
        assert_eq!(pool.learn(&["y".into()])[0].name, "y");
        assert_eq!(pool.order().len(), 2);
    }

    #[test]
    fn clients_are_cut_only_if_there_is_a_better_place() {
        let pool = pool("", &["a", "b"]);
        let lease = pool.lease("a").unwrap();
        pool.report("a", refused());
        assert!(!lease.cut().is_cancelled(), "nobody is known to be healthy");
        pool.report("b", Ok(()));
        assert!(lease.cut().is_cancelled());
        assert_eq!(pool.cuts(), 1);
        pool.report("a", Ok(()));
        assert!(!pool.lease("a").unwrap().cut().is_cancelled());
        drop(lease);
        assert!(pool.shown().iter().all(|s| s.connections == 0));
    }

    #[test]
    fn a_server_that_left_is_no_longer_checked() {
        let pool = pool("", &["a"]);
        let charge = pool.learn(&["b".into()]).remove(0);
        let lease = pool.lease("b").unwrap();
        pool.learn(&["a".into()]);
        assert!(charge.gone.is_cancelled() && !lease.cut().is_cancelled());
        assert!(pool.lease("b").is_none());
    }
}
