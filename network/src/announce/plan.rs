//! Which node holds an address. Pure: from the Lease, the nodes, and the time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::facts::{Fitness, Nodes};

/// A holder renews this often.
pub const RENEW: Duration = Duration::from_millis(1500);
/// A holder that could not renew for so long doubts, and yields to whoever else answers on the link.
pub const DOUBT: Duration = Duration::from_secs(4);
/// Time between those who want an abandoned address, in the order of [`rank`], so that they do not collide.
pub const STEP: Duration = Duration::from_millis(150);

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Own node.
    pub me: &'a str,
    /// Who holds the Lease; empty for nobody.
    pub holder: &'a str,
    /// When the Lease was first seen as it is.
    pub seen: Instant,
    /// How long it is good without being renewed.
    pub length: Duration,
    /// Own place among the nodes that may hold it; `None` when this node may not.
    pub rank: Option<u32>,
    /// When we last renewed, if we answer for it.
    pub renewed: Option<Instant>,
}

/// What is to be done about an address now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing until then; for ever without a time.
    Wait(Option<Instant>),
    /// Write ourselves into the Lease, for the first time or again.
    Renew,
    /// Stop answering; the Lease is another's.
    Withdraw,
    /// Stop answering, and leave the Lease to others.
    Release,
}

/// Decides.
pub fn decide(view: &View<'_>, now: Instant) -> Act {
    if view.holder == view.me {
        return match (view.rank, view.renewed) {
            (None, _) => Act::Release,
            // A restart: nobody else can hold it under our name.
            (Some(_), None) => Act::Renew,
            (Some(_), Some(at)) if now >= at + RENEW => Act::Renew,
            (Some(_), Some(at)) => Act::Wait(Some(at + RENEW)),
        };
    }
    if view.renewed.is_some() {
        return Act::Withdraw;
    }
    let Some(rank) = view.rank else { return Act::Wait(None) };
    let free = if view.holder.is_empty() { view.seen } else { view.seen + view.length };
    let turn = free + STEP * rank;
    if now >= turn { Act::Renew } else { Act::Wait(Some(turn)) }
}

/// Own place among the nodes that may hold an address. The order is another for each address, so that they spread.
///
/// Nodes that are cordoned count only while there are no others. With `local`, only nodes in it count.
pub fn rank(me: &str, address: IpAddr, nodes: &Nodes, local: Option<&BTreeSet<String>>) -> Option<u32> {
    let placed = |wanted: Fitness| -> Vec<&str> {
        let fit = nodes.iter().filter(|(_, f)| f.fitness == wanted).map(|(n, _)| n.as_str());
        fit.filter(|n| local.is_none_or(|l| l.contains(*n))).collect()
    };
    let mut all = placed(Fitness::Fit);
    if all.is_empty() {
        all = placed(Fitness::Cordoned);
    }
    all.sort_by_key(|n| (mix(address, n), *n));
    all.iter().position(|n| *n == me).and_then(|n| u32::try_from(n).ok())
}

/// FNV-1a, with a last stir: the same on all nodes.
fn mix(address: IpAddr, node: &str) -> u64 {
    let bytes = address.to_string().into_bytes().into_iter().chain(node.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::NodeFacts;

    const S: Duration = Duration::from_secs(1);

    fn view(
        holder: &'static str,
        seen: Instant,
        rank: Option<u32>,
        renewed: Option<Instant>,
    ) -> View<'static> {
        View { me: "me", holder, seen, length: S * 5, rank, renewed }
    }

    #[test]
    fn a_holder_renews_and_others_wait_their_turn() {
        let t = Instant::now();
        let of = |holder, rank, renewed: Option<u32>, now: Duration| {
            decide(&view(holder, t, rank, renewed.map(|s| t + S * s)), t + now)
        };
        assert_eq!(of("me", Some(0), Some(0), S), Act::Wait(Some(t + RENEW)));
        assert_eq!(of("me", Some(0), Some(0), S * 2), Act::Renew);
        assert_eq!(of("me", Some(0), None, S), Act::Renew);
        assert_eq!(of("me", None, Some(0), S), Act::Release);
        assert_eq!(of("you", Some(0), Some(0), S), Act::Withdraw);
        assert_eq!(of("you", Some(0), None, S), Act::Wait(Some(t + S * 5)));
        assert_eq!(of("you", Some(2), None, S * 5), Act::Wait(Some(t + S * 5 + STEP * 2)));
        assert_eq!(of("you", Some(2), None, S * 6), Act::Renew);
        assert_eq!(of("you", None, None, S * 60), Act::Wait(None));
        assert_eq!(of("", Some(0), None, S * 0), Act::Renew);
        assert_eq!(of("", Some(1), None, S * 0), Act::Wait(Some(t + STEP)));
    }

    fn nodes(all: &[(&str, Fitness)]) -> Nodes {
        all.iter()
            .map(|(n, fitness)| (n.to_string(), NodeFacts { fitness: *fitness, ..NodeFacts::default() }))
            .collect()
    }

    #[test]
    fn only_fit_nodes_have_a_place() {
        let ip = "10.0.0.1".parse().unwrap();
        let all = nodes(&[
            ("a", Fitness::Fit),
            ("b", Fitness::Cordoned),
            ("c", Fitness::Unfit),
            ("d", Fitness::Fit),
        ]);
        let places = |nodes: &Nodes, local: Option<&BTreeSet<String>>| -> Vec<Option<u32>> {
            ["a", "b", "c", "d"].iter().map(|me| rank(me, ip, nodes, local)).collect()
        };
        let got = places(&all, None);
        assert!(
            got[0].is_some() && got[3].is_some() && got[0] != got[3] && got[1].is_none() && got[2].is_none()
        );
        let local = BTreeSet::from(["b".to_string(), "d".to_string()]);
        assert_eq!(places(&all, Some(&local)), [None, None, None, Some(0)]);
        let local = BTreeSet::from(["b".to_string()]);
        assert_eq!(
            places(&all, Some(&local)),
            [None, Some(0), None, None],
            "better a cordoned one than none"
        );
    }

    #[test]
    fn addresses_spread_over_nodes() {
        let all = nodes(&[("a", Fitness::Fit), ("b", Fitness::Fit), ("c", Fitness::Fit)]);
        let first = |me: &str| {
            (1..=90u8).filter(|n| rank(me, IpAddr::from([10, 0, 0, *n]), &all, None) == Some(0)).count()
        };
        let counts = ["a", "b", "c"].map(first);
        assert_eq!(counts.iter().sum::<usize>(), 90);
        assert!(counts.iter().all(|n| (15..=50).contains(n)), "{counts:?}");
    }

    /// Nodes with clocks of their own, calls that are lost, links that are cut: never do two renew one Lease within its
    /// length, and somebody always holds it again in time.
    #[test]
    fn histories_have_one_holder() {
        let seeds: u64 = std::env::var("COXSWAIN_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
        for seed in 0..seeds {
            history(seed);
        }
    }

    fn history(seed: u64) {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let tick = Duration::from_millis(50);
        let (mut holder, mut version, mut written) = (0usize, 0u64, start);
        // Per node: what it has seen (holder, version, when), when it renewed, until when it is cut off
        let mut seen = [(0usize, 0u64, start); 3];
        let mut renewed: [Option<Instant>; 3] = [None; 3];
        let mut cut = [start; 3];
        for n in 1..4000u32 {
            let now = start + tick * n;
            for me in 0..3usize {
                if rng.random_ratio(1, 900) {
                    cut[me] = now + Duration::from_millis(rng.random_range(100..12_000));
                    if rng.random_ratio(1, 3) {
                        renewed[me] = None;
                    }
                }
                let reached = now >= cut[me];
                if reached && seen[me].1 != version && rng.random_ratio(3, 4) {
                    seen[me] = (holder, version, now);
                }
                let names = ["", "n1", "n2", "n3"];
                let view = View {
                    me: names[me + 1],
                    holder: names[seen[me].0],
                    seen: seen[me].2,
                    length: S * 5,
                    rank: u32::try_from(me).ok(),
                    renewed: renewed[me],
                };
                match decide(&view, now) {
                    Act::Renew if reached && seen[me].1 == version => {
                        let usurped = holder != 0 && holder != me + 1;
                        assert!(
                            !usurped || now >= written + S * 5,
                            "seed {seed}: taken from a holder that had renewed"
                        );
                        (holder, version, written) = (me + 1, version + 1, now);
                        seen[me] = (holder, version, now);
                        renewed[me] = Some(now);
                    }
                    Act::Withdraw | Act::Release => renewed[me] = None,
                    _ => {}
                }
            }
            let idle = cut.iter().all(|c| now >= *c + S * 7);
            assert!(!idle || now < written + RENEW + S, "seed {seed}: nobody holds it");
            let holding =
                (0..3).filter(|&me| now >= cut[me] + S && renewed[me].is_some_and(|at| now < at + DOUBT));
            assert!(holding.count() <= 1 || now < written + S, "seed {seed}: two hold it");
        }
    }
}
