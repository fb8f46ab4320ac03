//! Histories at random: syncs over stale caches, writes that fail or whose answers are lost, pods that die, users who
//! change their minds, managers that start anew. What must hold is checked at every write. A history that breaks it
//! prints its seed; the controller itself is the real one, only the API server is made up.

mod checks;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use control::{Cache, Key, Queue};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::json;

use super::observe::{Room, wake};
use super::pods::{FINALIZER, tracked};
use super::tests::job as job_of;
use super::view::finished;
use crate::kit::adopt::BY_CONTROLLER;
use crate::kit::meta::controller;
use crate::kit::pods;
use crate::testing::histories::paused;
use crate::testing::{clock, server};
use world::World;

/// A manager that has just started, with caches as things are.
fn manager(world: &Arc<Mutex<World>>) -> Arc<Room> {
    let context = server::context(world, "job-controller");
    let (jobs, all): (Cache<Job>, Cache<Pod>) = (Cache::detached(), Cache::detached());
    jobs.add_index(BY_CONTROLLER, |job: &Job| {
        controller(&job.metadata).map(|c| c.uid.clone()).into_iter().collect()
    });
    pods::index(&all);
    let mut room = Room::new(context, jobs, all);
    room.now = clock::now;
    let room = Arc::new(room);
    wake(&room, &Queue::new(), &Queue::new());
    let mut world = world.lock();
    world.job_news.clear();
    world.pod_news.clear();
    room.jobs.take(Event::Init, None);
    room.jobs.take(Event::InitApply(world.job.clone()), None);
    room.jobs.take(Event::InitDone, None);
    room.pods.take(Event::Init, None);
    world.pods.iter().for_each(|p| room.pods.take(Event::InitApply(p.clone()), None));
    room.pods.take(Event::InitDone, None);
    room
}

fn deliver(world: &Mutex<World>, room: &Room, jobs: usize, all: usize) {
    for _ in 0..jobs {
        let Some(news) = world.lock().job_news.pop_front() else { break };
        room.jobs.take(news, None);
    }
    for _ in 0..all {
        let Some(news) = world.lock().pod_news.pop_front() else { break };
        room.pods.take(news, None);
    }
}

async fn sync(world: &Mutex<World>, room: &Room) {
    let seen = room.jobs.get("ns", "j").and_then(|j| control::cache::version_of(&*j));
    world.lock().seen = seen.unwrap_or(0);
    // A failed look is looked at again, which is what the next step may be.
    let _ = room.sync(Key::new("ns", "j")).await;
}

async fn free_orphans(world: &Mutex<World>, room: &Room) {
    let keys: Vec<Key> = world.lock().pods.iter().map(Key::of).collect();
    for key in keys {
        let _ = room.sync_orphan(key).await;
    }
}

async fn history(world: &Arc<Mutex<World>>) {
    let mut room = manager(world);
    let steps = world.lock().rng.random_range(40..160);
    for _ in 0..steps {
        let (roll, more) = {
            let mut world = world.lock();
            (world.rng.random_range(0..100), world.rng.random_range(1..5))
        };
        match roll {
            0..30 => sync(world, &room).await,
            30..45 => deliver(world, &room, more, 0),
            45..62 => deliver(world, &room, 0, more),
            62..84 => world.lock().live(false),
            84..88 => clock::jump(Duration::from_secs(15 * more as u64)),
            88..92 => free_orphans(world, &room).await,
            92..97 => world.lock().meddle(),
            _ => {
                world.lock().log.push("the manager starts anew".into());
                room = manager(world);
            }
        }
    }
    settle(world, &room).await;
}

/// Nothing fails any more: the Job must come to its end, and let all its pods go.
async fn settle(world: &Arc<Mutex<World>>, room: &Room) {
    {
        let mut world = world.lock();
        world.faults = false;
        world.job.spec.as_mut().unwrap().suspend = Some(false);
        world.job_changed();
        world.log.push("all is well".into());
    }
    for _ in 0..400 {
        deliver(world, room, usize::MAX, usize::MAX);
        sync(world, room).await;
        free_orphans(world, room).await;
        (0..3).for_each(|_| world.lock().live(true));
        // What is not known to have been made is waited for, at most five minutes.
        clock::pass(Duration::from_secs(100)).await;
        let world = world.lock();
        if finished(&world.job) && !world.pods.iter().any(tracked) {
            return;
        }
    }
    panic!("the job does not end: {}", serde_json::to_string(&world.lock().job.status).unwrap());
}

fn run(seed: u64) -> Result<(), String> {
    clock::reset();
    let world = Arc::new(Mutex::new(World::new(seed)));
    let result = catch_unwind(AssertUnwindSafe(|| paused(history(&world))));
    // A broken promise may have been noticed inside the made-up server, whose lock is then still whole.
    result.map_err(|panic| {
        let world = world.lock();
        println!("{}\n{}", serde_json::to_string(&world.job.spec).unwrap(), world.log.join("\n"));
        resume_unwind(panic)
    })
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 100;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, run);
}

/// The checks themselves notice something: a pod that is let go without a note.
#[test]
#[should_panic(expected = "uncounted")]
fn a_pod_let_go_uncounted_is_noticed() {
    let mut world = World::new(1);
    world.job = job_of("completions: 2, parallelism: 2", "");
    let mut pod = crate::testing::pod("a Succeeded node=n");
    pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    world.pods.push(pod);
    let _ = world
        .patch(0, &json!({"metadata": {"uid": "uid-a", "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}));
}
