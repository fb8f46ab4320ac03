//! Looks over a scheduler's shoulder: every choice is held against the rules and what the scheduler's watches had told it by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::rules::{Setting, SimNode, There};
use super::world::{Change, SimPod, World};
use crate::model::pod::PodInfo;
use crate::state::{Moment, State};

/// What the watches of one scheduler have told it.
#[derive(Default)]
pub struct Told {
    pub pods: BTreeMap<String, Arc<SimPod>>,
    pub nodes: BTreeMap<String, SimNode>,
    pub allowed: usize,
}

/// Others were chosen to make room.
pub struct Nomination {
    pub who: usize,
    pub pod: String,
    pub priority: i32,
    pub node: String,
    /// How many guarded pods might go.
    pub allowed: usize,
    /// Where no guarded pod would have had to go.
    pub ways: Vec<String>,
    /// Guarded pods that went.
    pub broken: BTreeSet<String>,
}

/// The one who looks.
pub struct Witness {
    pub who: usize,
    pub world: Arc<Mutex<World>>,
    pub told: Arc<Mutex<Told>>,
    /// What the dead think is nothing to anyone.
    pub dead: Arc<AtomicBool>,
}

impl Told {
    pub fn take(&mut self, change: &Change) {
        match change {
            Change::Pod(name, Some((_, pod))) => drop(self.pods.insert(name.clone(), pod.clone())),
            Change::Pod(name, None) => drop(self.pods.remove(name)),
            Change::Node(name, Some((_, node))) => drop(self.nodes.insert(name.clone(), node.clone())),
            Change::Node(name, None) => drop(self.nodes.remove(name)),
            Change::Budget(_, allowed) => self.allowed = *allowed,
        }
    }

    fn by_uid(&self, uid: &str) -> Option<&Arc<SimPod>> {
        self.pods.values().find(|p| p.uid == uid)
    }

    fn there(&self, uid: &str, node: &str) -> Option<There> {
        let pod = self.by_uid(uid)?;
        Some(There { uid: uid.into(), node: node.into(), wish: pod.wish.clone(), deleting: pod.deleting })
    }

    /// The cluster as told, with the scheduler's own choices that are on their way.
    fn setting(&self, state: &State) -> Setting<'_> {
        let placed = state.placed();
        let own = placed.iter().filter(|(_, (_, assumed))| *assumed);
        let own: Vec<There> = own.filter_map(|(uid, (node, _))| self.there(uid, node)).collect();
        let on_nodes = self.pods.values().filter(|p| p.node.is_some() && !p.ended);
        let seen = on_nodes.filter_map(|p| self.there(&p.uid, p.node.as_deref()?));
        let seen: Vec<There> = seen.filter(|t| own.iter().all(|o| o.uid != t.uid)).collect();
        Setting::new(&self.nodes, own.into_iter().chain(seen))
    }
}

impl Witness {
    /// To be called at every choice.
    pub fn look(&self, state: &mut State, moment: Moment, pod: &PodInfo, node: &str) {
        if self.dead.load(Ordering::Relaxed) {
            return;
        }
        let told = self.told.lock();
        let mut world = self.world.lock();
        if moment == Moment::Forgotten {
            return self.forgotten(&mut world, pod, node);
        }
        let Some(seen) = told.by_uid(&pod.uid).cloned() else {
            return world.fault(format!("{} is chosen for, though it is gone", pod.name));
        };
        if seen.gated || seen.deleting || seen.node.is_some() {
            world.fault(format!("{} is chosen for: {seen:?}", pod.name));
        }
        let mut coming = Vec::new();
        for at in told.nodes.keys() {
            for other in state.all().nominated(at).iter().filter(|o| o.uid != pod.uid) {
                match told.there(&other.uid, at) {
                    Some(there) if there.wish.priority >= seen.wish.priority => coming.push(there),
                    Some(_) => {}
                    None => world.fault(format!("{} is gone and means to come to {at}", other.name)),
                }
            }
        }
        let setting = told.setting(state);
        let mut others = setting.clone();
        others.there.retain(|t| t.uid != pod.uid);
        match moment {
            Moment::Assumed => self.assumed(&mut world, &others, &seen, pod, node, &coming),
            Moment::Refused => self.refused(&mut world, &others, &seen, pod, &coming),
            Moment::Forgotten => {}
            Moment::Nominated => {
                self.nominated(&mut world, &others, &seen, (pod, node), &coming, told.allowed)
            }
        }
    }

    fn assumed(
        &self,
        world: &mut World,
        setting: &Setting<'_>,
        seen: &SimPod,
        pod: &PodInfo,
        node: &str,
        coming: &[There],
    ) {
        if seen.refusal.is_some() {
            world.count("refused, then placed");
        }
        world.chosen.push((self.who, seen.uid.clone(), node.into()));
        if setting.fits(&seen.wish, node, coming) {
            return;
        }
        let why =
            setting.trouble(&seen.wish, node, false).unwrap_or("the node is gone, or pods that mean to come");
        let beside: Vec<&There> = setting.there.iter().filter(|t| t.node == node).collect();
        let coming: Vec<&There> = coming.iter().filter(|t| t.node == node).collect();
        world.fault(format!(
            "{} is put on {node}, against {why}: {:?} beside {beside:?}, coming {coming:?}",
            pod.name, seen.wish
        ));
    }

    /// What a scheduler was not answered clearly it must find out.
    fn forgotten(&self, world: &mut World, pod: &PodInfo, node: &str) {
        world.count("a choice is taken back");
        let there = world.pods.values().any(|p| p.uid == pod.uid && p.node.as_deref() == Some(node));
        if there && world.alone && !world.excused(node) {
            world.fault(format!("{} is taken for unbound, though it is on {node}", pod.name));
        }
    }

    fn refused(
        &self,
        world: &mut World,
        setting: &Setting<'_>,
        seen: &SimPod,
        pod: &PodInfo,
        coming: &[There],
    ) {
        world.count("refused");
        let nodes = setting.places(&seen.wish, coming);
        if !nodes.is_empty() {
            world.fault(format!("{} is refused, though {nodes:?} would do: {:?}", pod.name, seen.wish));
        }
    }

    fn nominated(
        &self,
        world: &mut World,
        setting: &Setting<'_>,
        seen: &SimPod,
        (pod, node): (&PodInfo, &str),
        coming: &[There],
        allowed: usize,
    ) {
        world.count("nominated");
        if !setting.could(&seen.wish, node, coming, false) {
            world.fault(format!("pushing others off {node} is vain for {}: {:?}", pod.name, seen.wish));
        }
        let ways = setting.chances(&seen.wish, coming, true);
        let who = self.who;
        world.note(format!("scheduler {who} clears {node} for {}", pod.name));
        world.nominations.push(Nomination {
            who,
            pod: pod.name.clone(),
            priority: seen.wish.priority,
            node: node.into(),
            allowed,
            ways,
            broken: BTreeSet::new(),
        });
    }
}
