//! Which address a Service gets. Pure: from the pools, the claims there are, and what the Service asks for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// By the word in a Service.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }

    fn word(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }
}

/// Addresses from one to another, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    text: String,
    v4: bool,
    first: u128,
    last: u128,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Range {
    /// `A.B.C.D/N`, `A-B`, or one address. Of an IPv4 network the first and the last address are left out: they mean others
    /// on the link.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let of = |a: IpAddr, b: IpAddr| Self {
            text: text.into(),
            v4: a.is_ipv4(),
            first: number(a),
            last: number(b),
        };
        if let Ok(net) = text.parse::<IpNet>() {
            let mut range = of(net.network(), net.broadcast());
            if range.v4 && net.prefix_len() < 31 {
                range.first += 1;
                range.last -= 1;
            }
            return Ok(range);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(of(ip, ip));
        }
        let ends =
            text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        let Some((a, b)): Option<(IpAddr, IpAddr)> = ends else {
            bail!(
                "{text:?} is neither a network (10.0.0.0/24), nor a range (10.0.0.1-10.0.0.9), nor an address"
            )
        };
        ensure!(a.is_ipv4() == b.is_ipv4(), "{text:?} begins in one address family and ends in the other");
        ensure!(number(a) <= number(b), "{text:?} ends before it begins");
        Ok(of(a, b))
    }

    fn has(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.v4 && (self.first..=self.last).contains(&number(ip))
    }

    /// Is there an address in both?
    pub fn overlaps(&self, other: &Range) -> bool {
        self.v4 == other.v4 && self.first <= other.last && other.first <= self.last
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        (self.first..=self.last).map(|n| match u32::try_from(n) {
            Ok(n) if self.v4 => IpAddr::V4(Ipv4Addr::from(n)),
            _ => IpAddr::V6(Ipv6Addr::from(n)),
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Addresses to give away.
#[derive(Clone, Debug)]
pub struct Pool {
    pub name: String,
    pub ranges: Vec<Range>,
    /// Services that do not name the pool get addresses of it too.
    pub auto_assign: bool,
    /// Names of the links its addresses may be announced on, a regular expression.
    pub interfaces: Option<String>,
}

impl Pool {
    /// Is the address one of it?
    pub fn has(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|r| r.has(ip))
    }

    fn of(&self, family: Family) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(move |r| r.v4 == (family == Family::V4))
    }
}

/// A Service that uses an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Only nodes with endpoints of it may answer for the address.
    pub local: bool,
    /// It may share its address with Services of the same word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<String>,
    /// `TCP/80`.
    pub ports: Vec<String>,
}

impl Party {
    fn shares_with(&self, other: &Party) -> bool {
        let agreed = self.sharing.is_some() && self.sharing == other.sharing;
        agreed && !self.local && !other.local && !self.ports.iter().any(|p| other.ports.contains(p))
    }

    fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// An address and who uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub parties: Vec<Party>,
}

impl Claim {
    /// Does the Service of this uid use it?
    pub fn is_of(&self, uid: &str) -> bool {
        self.parties.iter().any(|p| p.uid == uid)
    }
}

/// What a Service asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub party: Party,
    /// Families it needs an address of, in order.
    pub families: Vec<Family>,
    /// Does it need one of each?
    pub all_families: bool,
    /// Just these addresses.
    pub wish: Vec<IpAddr>,
    /// Only of this pool.
    pub pool: Option<String>,
    /// What its status says already.
    pub previous: Vec<IpAddr>,
}

/// What is to be done so that the Service has its addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its own already.
    pub keep: Vec<IpAddr>,
    /// To be claimed.
    pub take: Vec<IpAddr>,
    /// Its own, and no longer wanted.
    pub release: Vec<IpAddr>,
}

/// What is there.
pub struct View<'a> {
    pub pools: &'a [Pool],
    pub claims: &'a [Claim],
    /// Addresses of nodes, which nobody else may have.
    pub nodes: &'a [IpAddr],
}

/// Decides.
///
/// # Errors
/// When there is no address for the Service, with the reason.
pub fn plan(request: &Request, view: &View<'_>) -> Result<Plan> {
    let own: Vec<IpAddr> =
        view.claims.iter().filter(|c| c.is_of(&request.party.uid)).map(|c| c.address).collect();
    let wanted = match request.wish.as_slice() {
        [] => view.choose(request, &own)?,
        wish => {
            wish.iter().try_for_each(|ip| view.grant(request, *ip))?;
            wish.to_vec()
        }
    };
    let (keep, take) = wanted.iter().copied().partition(|ip| own.contains(ip));
    Ok(Plan { keep, take, release: own.into_iter().filter(|ip| !wanted.contains(ip)).collect() })
}

impl View<'_> {
    fn claim(&self, ip: IpAddr) -> Option<&Claim> {
        self.claims.iter().find(|c| c.address == ip)
    }

    /// Whoever is in the way.
    fn obstacle(&self, party: &Party, ip: IpAddr) -> Option<String> {
        if self.nodes.contains(&ip) {
            return Some("a node".into());
        }
        let others = self.claim(ip).into_iter().flat_map(|c| &c.parties).filter(|p| p.uid != party.uid);
        others.filter(|p| !party.shares_with(p)).map(|p| format!("service {}", p.title())).next()
    }

    /// May the Service have the address it wishes for?
    fn grant(&self, request: &Request, ip: IpAddr) -> Result<()> {
        ensure!(
            request.families.iter().any(|f| f.has(ip)),
            "address {ip} is of a family that the service does not have"
        );
        let Some(pool) = self.pools.iter().find(|p| p.has(ip)) else {
            bail!("address {ip} is in no pool; {}", self.describe())
        };
        if let Some(named) = request.pool.as_ref().filter(|n| **n != pool.name) {
            bail!("address {ip} is of pool {:?}, not of {named:?}", pool.name);
        }
        match self.obstacle(&request.party, ip) {
            Some(who) => bail!("address {ip} is in use by {who}"),
            None => Ok(()),
        }
    }

    fn choose(&self, request: &Request, own: &[IpAddr]) -> Result<Vec<IpAddr>> {
        let pools = self.pools_for(request)?;
        let (mut all, mut failed) = (Vec::new(), None);
        for family in &request.families {
            match self.choose_of(*family, request, own, &pools) {
                Ok(ip) => all.push(ip),
                Err(error) if request.all_families => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    fn pools_for(&self, request: &Request) -> Result<Vec<&Pool>> {
        let Some(name) = &request.pool else {
            return Ok(self.pools.iter().filter(|p| p.auto_assign).collect());
        };
        match self.pools.iter().find(|p| p.name == *name) {
            Some(pool) => Ok(vec![pool]),
            None => bail!("there is no pool {name:?}; {}", self.describe()),
        }
    }

    fn choose_of(
        &self,
        family: Family,
        request: &Request,
        own: &[IpAddr],
        pools: &[&Pool],
    ) -> Result<IpAddr> {
        let party = &request.party;
        let free = |ip: &IpAddr| self.obstacle(party, *ip).is_none();
        // What it has it keeps, even if the pools were changed under it, unless it asks for another pool.
        let fits = |ip: &IpAddr| request.pool.is_none() || pools.iter().any(|p| p.has(*ip));
        let kept = own.iter().copied().filter(|ip| family.has(*ip) && free(ip) && fits(ip));
        let known = |ip: &IpAddr| self.pools.iter().any(|p| p.has(*ip));
        let had = request
            .previous
            .iter()
            .copied()
            .filter(|ip| family.has(*ip) && free(ip) && fits(ip) && known(ip));
        let within = |ip: &IpAddr| family.has(*ip) && pools.iter().any(|p| p.has(*ip));
        let shared = self.claims.iter().map(|c| c.address).filter(|ip| within(ip) && free(ip));
        let fresh = pools.iter().flat_map(|p| p.of(family)).flat_map(Range::addresses);
        let fresh = fresh.filter(|ip| self.claim(*ip).is_none() && free(ip));
        let found = kept.chain(had).chain(shared).chain(fresh).next();
        found.map_or_else(|| bail!("{}", self.exhausted(family, pools)), Ok)
    }

    fn exhausted(&self, family: Family, pools: &[&Pool]) -> String {
        let with: Vec<&&Pool> = pools.iter().filter(|p| p.of(family).next().is_some()).collect();
        if with.is_empty() {
            return format!("no pool has {} addresses to give away; {}", family.word(), self.describe());
        }
        let one = |pool: &&&Pool| {
            let all: u128 =
                pool.of(family).map(|r| (r.last - r.first).saturating_add(1)).fold(0, u128::saturating_add);
            let used = self.claims.iter().filter(|c| family.has(c.address) && pool.has(c.address)).count();
            format!("{:?} ({used} of {all} in use)", pool.name)
        };
        let list: Vec<String> = with.iter().map(one).collect();
        format!("no {} address is free in pool {}", family.word(), list.join(", "))
    }

    fn describe(&self) -> String {
        let one = |p: &Pool| {
            let ranges: Vec<String> = p.ranges.iter().map(Range::to_string).collect();
            format!("{:?} ({})", p.name, ranges.join(", "))
        };
        let all: Vec<String> = self.pools.iter().map(one).collect();
        if all.is_empty() { "no pool is configured".into() } else { format!("there are {}", all.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Vec<Pool> {
        let pool = |name: &str, ranges: &[&str], auto_assign| Pool {
            name: name.into(),
            ranges: ranges.iter().map(|r| Range::parse(r).unwrap()).collect(),
            auto_assign,
            interfaces: None,
        };
        vec![pool("main", &["10.0.0.1-10.0.0.3", "fd00::/126"], true), pool("extra", &["10.9.0.0/30"], false)]
    }

    fn party(name: &str, sharing: Option<&str>, ports: &[&str]) -> Party {
        let ports = ports.iter().map(|p| p.to_string()).collect();
        Party {
            namespace: "n".into(),
            name: name.into(),
            uid: format!("u-{name}"),
            sharing: sharing.map(String::from),
            ports,
            ..Party::default()
        }
    }

    /// `10.0.0.1=a,b 10.0.0.2=c`, all with port 80.
    fn claims(text: &str) -> Vec<Claim> {
        let one = |word: &str| {
            let (address, names) = word.split_once('=').unwrap();
            let parties = names.split(',').map(|n| match n.strip_prefix('~') {
                Some(n) => party(n, Some("k"), &["TCP/80"]),
                None => party(n, None, &["TCP/80"]),
            });
            Claim { address: address.parse().unwrap(), parties: parties.collect() }
        };
        text.split_whitespace().map(one).collect()
    }

    fn request(name: &str) -> Request {
        Request {
            party: party(name, None, &["TCP/80"]),
            families: vec![Family::V4],
            all_families: true,
            wish: vec![],
            pool: None,
            previous: vec![],
        }
    }

    fn told(request: &Request, there: &str) -> String {
        let (pools, claims) = (pools(), claims(there));
        let nodes = ["10.0.0.1".parse().unwrap()];
        let list = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        match plan(request, &View { pools: &pools, claims: &claims, nodes: &nodes }) {
            Ok(p) => format!("keep {} take {} release {}", list(&p.keep), list(&p.take), list(&p.release)),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_are_given_kept_and_released() {
        let plain = request("a");
        assert_eq!(told(&plain, ""), "keep  take 10.0.0.2 release ", "10.0.0.1 is a node's");
        assert_eq!(told(&plain, "10.0.0.2=b"), "keep  take 10.0.0.3 release ");
        assert_eq!(told(&plain, "10.0.0.3=a"), "keep 10.0.0.3 take  release ");
        assert_eq!(
            told(&plain, "192.168.0.1=a"),
            "keep 192.168.0.1 take  release ",
            "a pool that is no more"
        );
        assert_eq!(
            told(&plain, "10.0.0.2=b 10.0.0.3=c"),
            "no IPv4 address is free in pool \"main\" (2 of 3 in use)"
        );
        let wish = Request { wish: vec!["10.0.0.3".parse().unwrap()], ..request("a") };
        assert_eq!(told(&wish, "10.0.0.2=a"), "keep  take 10.0.0.3 release 10.0.0.2");
        assert_eq!(told(&wish, "10.0.0.3=b"), "address 10.0.0.3 is in use by service n/b");
        let node = Request { wish: vec!["10.0.0.1".parse().unwrap()], ..request("a") };
        assert_eq!(told(&node, ""), "address 10.0.0.1 is in use by a node");
        let far = Request { wish: vec!["1.1.1.1".parse().unwrap()], ..request("a") };
        let there = "there are \"main\" (10.0.0.1-10.0.0.3, fd00::/126), \"extra\" (10.9.0.0/30)";
        assert_eq!(told(&far, ""), format!("address 1.1.1.1 is in no pool; {there}"));
        let had = Request { previous: vec!["10.0.0.3".parse().unwrap()], ..request("a") };
        assert_eq!(told(&had, ""), "keep  take 10.0.0.3 release ", "the claim was lost, the status was not");
        assert_eq!(told(&had, "10.0.0.3=b"), "keep  take 10.0.0.2 release ");
    }

    #[test]
    fn pools_are_named_and_families_asked_for() {
        let named = |pool: &str| Request { pool: Some(pool.into()), ..request("a") };
        assert_eq!(told(&named("extra"), "10.0.0.2=a"), "keep  take 10.9.0.1 release 10.0.0.2");
        assert!(told(&named("no"), "").starts_with("there is no pool \"no\"; there are"));
        let dual = Request { families: vec![Family::V6, Family::V4], ..request("a") };
        assert_eq!(told(&dual, ""), "keep  take fd00::,10.0.0.2 release ");
        let full = "fd00::=b fd00::1=c fd00::2=d fd00::3=e";
        assert_eq!(told(&dual, full), "no IPv6 address is free in pool \"main\" (4 of 4 in use)");
        let either = Request { all_families: false, ..dual };
        assert_eq!(told(&either, full), "keep  take 10.0.0.2 release ");
        let none = Request { families: vec![Family::V6], ..named("extra") };
        assert!(told(&none, "").starts_with("no pool has IPv6 addresses to give away; there are"));
    }

    #[test]
    fn addresses_are_shared_by_agreement() {
        let with = |key: &str, port: &str| Request { party: party("a", Some(key), &[port]), ..request("a") };
        assert_eq!(told(&with("k", "TCP/81"), "10.0.0.3=~b"), "keep  take 10.0.0.3 release ");
        assert_eq!(
            told(&with("k", "TCP/80"), "10.0.0.3=~b"),
            "keep  take 10.0.0.2 release ",
            "the port is taken"
        );
        assert_eq!(told(&with("x", "TCP/81"), "10.0.0.3=~b"), "keep  take 10.0.0.2 release ");
        assert_eq!(told(&with("k", "TCP/81"), "10.0.0.3=b"), "keep  take 10.0.0.2 release ");
        let local =
            Request { party: Party { local: true, ..party("a", Some("k"), &["TCP/81"]) }, ..request("a") };
        assert_eq!(told(&local, "10.0.0.3=~b"), "keep  take 10.0.0.2 release ");
        // The port that was changed collides: the one who came later moves away
        let moved = with("k", "TCP/80");
        assert_eq!(told(&moved, "10.0.0.3=~a,~b"), "keep  take 10.0.0.2 release 10.0.0.3");
    }

    #[test]
    fn ranges_are_read() {
        let ends = |text: &str| {
            let r = Range::parse(text).unwrap();
            let all: Vec<String> = r.addresses().take(9).map(|a| a.to_string()).collect();
            format!("{} {} {}", all.len(), all[0], all[all.len() - 1])
        };
        assert_eq!(ends("10.0.0.0/29"), "6 10.0.0.1 10.0.0.6");
        assert_eq!(ends("10.0.0.4/31"), "2 10.0.0.4 10.0.0.5");
        assert_eq!(ends("10.0.0.250 - 10.0.1.1"), "8 10.0.0.250 10.0.1.1");
        assert_eq!(ends("fd00::7"), "1 fd00::7 fd00::7");
        assert_eq!(ends("::/126"), "4 :: ::3");
    }
}
