//! What must be true when all is quiet: no pod waits that could be placed, and schedulers count and keep nothing that isn't there.

use std::collections::BTreeMap;

use super::history::History;
use super::process::Process;
use super::rules::Wish;
use super::world::{Change, World};

/// Looks for pods that nothing woke. Pods for which others would have to be pushed away are looked at only if they ask for nothing
/// but room: whether preemption could help is, as upstream's, not asked anew when something goes that only stood in its way.
pub fn awake(history: &History) {
    let mut world = history.world.lock();
    let faults = left_waiting(&world, asks_for_room);
    faults.into_iter().for_each(|f| world.fault(format!("asleep: {f}")));
}

fn asks_for_room(wish: &Wish) -> bool {
    wish.company.is_none()
        && wish.even.is_none()
        && wish.shy.is_none()
        && wish.group.is_none()
        && wish.port == 0
}

/// Looks for what is wrong at the end.
pub fn check(history: &History) {
    let mut world = history.world.lock();
    let mut faults: Vec<String> = history.processes.iter().flat_map(|p| leaks(p, &world)).collect();
    faults.extend(left_waiting(&world, |_| true));
    faults.into_iter().for_each(|f| world.fault(f));
}

/// Pods that could be placed, or (`push`) could be by pushing others away.
fn left_waiting(world: &World, push: impl Fn(&Wish) -> bool) -> Vec<String> {
    let setting = world.setting();
    let waiting = world.pods.iter().filter(|(_, p)| p.node.is_none() && !p.gated);
    let ways = |wish: &Wish| {
        let mut nodes = setting.places(wish, &[]);
        if push(wish) {
            nodes.extend(setting.chances(wish, &[], false));
        }
        nodes
    };
    let wrong = waiting.map(|(name, pod)| (name, pod, ways(&pod.wish))).filter(|(.., w)| !w.is_empty());
    wrong.map(|(name, pod, ways)| format!("{name} waits, though {ways:?} would do: {pod:?}")).collect()
}

/// What a scheduler counts is what there is.
fn leaks(process: &Process, world: &World) -> Vec<String> {
    let mut state = process.scheduler.state.lock();
    let mut faults = Vec::new();
    let who = process.line.who;
    let counted = state.placed();
    let there = world.on_nodes().map(|(_, p)| (p.uid.clone(), (p.node.clone().unwrap_or_default(), false)));
    let there: BTreeMap<String, (String, bool)> = there.collect();
    if counted != there {
        faults.push(format!("scheduler {who} counts {counted:?}, there is {there:?}"));
    }
    for node in world.nodes.keys() {
        let here = world.on_nodes().filter(|(_, p)| p.node.as_ref() == Some(node));
        let (used, number) = here.fold((0, 0), |(cpu, n), (_, p)| (cpu + p.wish.cpu, n + 1));
        let counted = state.all().get(node).map(|n| (n.requested.cpu / 1000, n.pods.len()));
        if counted != Some((used, number)) {
            faults.push(format!("{node}: scheduler {who} counts {counted:?}, used are {used} by {number}"));
        }
    }
    let mine = world.pods.values().filter(|p| p.node.is_none() && p.wish.scheduler == process.name).count();
    let queued: usize = state.queue().lengths().iter().sum();
    if (queued, state.wanting()) != (mine, mine) {
        let known = state.wanting();
        faults.push(format!("{mine} pods wait, scheduler {who} knows {known} and queues {queued}"));
    }
    let remains = state.queue().remains();
    if remains != [0; 3] {
        faults.push(format!("scheduler {who} still tries, remembers and holds {remains:?}"));
    }
    let mut nodes: Vec<&String> = Vec::new();
    for change in &world.log {
        if let Change::Node(name, _) = change
            && !nodes.contains(&name)
        {
            nodes.push(name);
        }
    }
    for node in nodes {
        for pod in state.all().nominated(node) {
            let truly = world.pods.values().find(|p| p.uid == pod.uid && p.node.is_none() && !p.gated);
            // What another scheduler means to do is known from the pod alone.
            let other =
                truly.is_some_and(|p| p.wish.scheduler != process.name && p.nominated.as_ref() != Some(node));
            if truly.is_none() || other {
                faults.push(format!("scheduler {who} keeps {node} for {}, which won't come", pod.name));
            }
        }
    }
    faults
}
