//! How zones fare, and how fast nodes in them may be given up.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::plan::{Permit, ready};
use crate::kit::meta::label;

/// Rates in nodes per second, and where they change.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub normal: f64,
    pub secondary: f64,
    pub large: usize,
    pub threshold: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Normal,
    Partial,
    Full,
}

/// The zone of a node.
pub fn zone(node: &Node) -> String {
    let part = |key: &str| label(&node.metadata, key).unwrap_or_default();
    match (part("topology.kubernetes.io/region"), part("topology.kubernetes.io/zone")) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}:\0:{zone}"),
    }
}

fn state(ready: usize, not_ready: usize, rates: &Rates) -> State {
    if ready == 0 && not_ready > 0 {
        State::Full
    } else if not_ready > 2 && not_ready as f64 / (ready + not_ready) as f64 >= rates.threshold {
        State::Partial
    } else {
        State::Normal
    }
}

struct Zone {
    state: State,
    ready: usize,
    not_ready: usize,
    rate: f64,
    next: Instant,
}

/// The zones as last counted, with a limiter each.
pub struct Zones {
    rates: Rates,
    zones: HashMap<String, Zone>,
    pub all_down: bool,
}

impl Zones {
    pub fn new(rates: Rates) -> Self {
        Self { rates, zones: HashMap::new(), all_down: false }
    }

    /// Counts the nodes anew. Says whether "all zones are down" has just begun or ended.
    pub fn count<'a>(&mut self, nodes: impl Iterator<Item = &'a Node>) -> bool {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for node in nodes {
            if label(&node.metadata, "node.kubernetes.io/exclude-disruption").is_some() {
                continue;
            }
            let count = counts.entry(zone(node)).or_default();
            if ready(node) == Some("True") { count.0 += 1 } else { count.1 += 1 }
        }
        let now = Instant::now();
        self.zones.retain(|name, _| counts.contains_key(name));
        for (name, (ready, not_ready)) in counts {
            let state = state(ready, not_ready, &self.rates);
            let rate = match state {
                State::Partial if ready + not_ready > self.rates.large => self.rates.secondary,
                State::Partial => 0.0,
                _ => self.rates.normal,
            };
            let zone = self.zones.entry(name).or_insert(Zone { state, ready, not_ready, rate, next: now });
            (zone.state, zone.rate) = (state, rate);
            (zone.ready, zone.not_ready) = (ready, not_ready);
        }
        let all_down = !self.zones.is_empty() && self.zones.values().all(|z| z.state == State::Full);
        std::mem::replace(&mut self.all_down, all_down) != all_down
    }

    /// Each zone with its nodes that are ready and those that are not.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.zones.iter().map(|(name, z)| (name.as_str(), z.ready, z.not_ready))
    }

    /// Whether one more node of a zone may be given up now.
    pub fn permit(&mut self, name: &str) -> Permit {
        if self.all_down {
            return Permit::AllDown;
        }
        let now = Instant::now();
        let normal = self.rates.normal;
        let zone = self.zones.entry(name.to_string()).or_insert(Zone {
            state: State::Normal,
            ready: 0,
            not_ready: 0,
            rate: normal,
            next: now,
        });
        if zone.rate <= 0.0 {
            return Permit::Wait(Duration::from_secs(5));
        }
        if zone.next > now {
            return Permit::Wait(zone.next - now);
        }
        zone.next = now + Duration::from_secs_f64(1.0 / zone.rate);
        Permit::Granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeCondition;

    const RATES: Rates = Rates { normal: 0.1, secondary: 0.01, large: 50, threshold: 0.55 };

    fn nodes(ready: usize, not: usize) -> Vec<Node> {
        let make = |status: &str| {
            let mut node = Node::default();
            let condition =
                NodeCondition { type_: "Ready".into(), status: status.into(), ..Default::default() };
            node.status.get_or_insert_default().conditions = Some(vec![condition]);
            node
        };
        (0..ready).map(|_| make("True")).chain((0..not).map(|_| make("Unknown"))).collect()
    }

    #[test]
    fn states() {
        let s = |r, n| state(r, n, &RATES);
        assert_eq!(
            (s(3, 0), s(1, 2), s(1, 3), s(0, 1)),
            (State::Normal, State::Normal, State::Partial, State::Full)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_in_ten_seconds_and_none_when_all_are_down() {
        let mut zones = Zones::new(RATES);
        assert!(!zones.count(nodes(5, 2).iter()));
        let name = zone(&Node::default());
        assert_eq!(zones.permit(&name), Permit::Granted);
        assert_eq!(zones.permit(&name), Permit::Wait(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(zones.permit(&name), Permit::Granted);
        assert!(zones.count(nodes(0, 7).iter()));
        assert_eq!(zones.permit(&name), Permit::AllDown);
        assert!(zones.count(nodes(1, 6).iter()));
        assert_eq!(zones.permit(&name), Permit::Wait(Duration::from_secs(5)));
    }
}
