//! The storage contract, kept by memory and by a real etcd alike.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube_apiserver::storage::etcd::{Etcd, Options};
use kube_apiserver::storage::memory::Memory;
use kube_apiserver::storage::{Along, Batch, Error, Event, Outcome, Storage, Watch, prefix_end};

async fn on_etcd() -> (common::Etcd, Arc<dyn Storage>) {
    daemon::init_crypto();
    let server = common::Etcd::start();
    let options = Options { endpoints: vec![server.url.clone()], ..Options::default() };
    let store = Etcd::connect(&options, "/registry").await.expect("client");
    server.ready().await;
    (server, Arc::new(store))
}

fn done(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Done(revision) => revision,
        Outcome::Conflict(found) => panic!("conflict with {found:?}"),
    }
}

async fn next(watch: &mut Watch) -> Result<Batch, Error> {
    tokio::time::timeout(Duration::from_secs(10), watch.batches.recv()).await.expect("in time").expect("open")
}

async fn next_events(watch: &mut Watch, n: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < n {
        if let Batch::Events(events) = next(watch).await.expect("events") {
            lines.extend(events.iter().map(|event| match event {
                Event::Put(kv) => format!("put {}={}", kv.key, String::from_utf8_lossy(&kv.value)),
                Event::Delete { key, .. } => format!("delete {key}"),
            }));
        }
    }
    lines
}

async fn writes(store: &dyn Storage) {
    let one = done(store.create("/r/w/a", Bytes::from("1"), None).await.expect("create"));
    let again = store.create("/r/w/a", Bytes::from("2"), None).await.expect("create");
    assert!(matches!(again, Outcome::Conflict(Some(kv)) if kv.mod_revision == one && kv.value == "1"));
    let two = done(store.update("/r/w/a", Bytes::from("2"), one, None).await.expect("update"));
    assert!(two > one);
    let stale = store.update("/r/w/a", Bytes::from("3"), one, None).await.expect("update");
    assert!(
        matches!(stale, Outcome::Conflict(Some(kv)) if kv.mod_revision == two && kv.create_revision == one)
    );
    assert!(matches!(
        store.update("/r/w/b", Bytes::from("3"), one, None).await.expect("update"),
        Outcome::Conflict(None)
    ));
    let read = store.get("/r/w/a").await.expect("get");
    assert_eq!(read.kv.map(|kv| (kv.value, kv.mod_revision)), Some((Bytes::from("2"), two)));
    assert!(read.revision >= two);
    assert!(matches!(store.delete("/r/w/a", one).await.expect("delete"), Outcome::Conflict(Some(_))));
    let gone = done(store.delete("/r/w/a", two).await.expect("delete"));
    assert!(gone > two && store.get("/r/w/a").await.expect("get").kv.is_none());
    assert!(store.revision().await.expect("revision") >= gone);
}

/// Two keys in one transaction: both or neither.
async fn writes_along(store: &dyn Storage) {
    let quota = done(store.create("/r/q/a", Bytes::from("0"), None).await.expect("create"));
    let along = |value: &'static str, expected| Along { key: "/r/q/a".into(), value: value.into(), expected };
    let put = async |key: &str, expected, along: Along| {
        store.put(key, Bytes::from("x"), expected, None, &[along]).await.expect("put")
    };
    let mut watch = store.watch("/r/", quota).await.expect("watch");
    let one = done(put("/r/p/a", 0, along("1", quota)).await);
    let both = store.get("/r/q/a").await.expect("get").kv.expect("there");
    assert_eq!((both.value.as_ref(), both.mod_revision), (&b"1"[..], one));
    let batch = next(&mut watch).await.expect("events");
    assert!(matches!(batch, Batch::Events(events) if events.len() == 2), "one batch");
    // The other key has changed: nothing is written, and the key itself is as expected.
    assert!(matches!(put("/r/p/b", 0, along("2", quota)).await, Outcome::Conflict(None)));
    assert!(
        matches!(put("/r/p/a", one, along("2", quota)).await, Outcome::Conflict(Some(kv)) if kv.mod_revision == one)
    );
    // The key itself has: the other one stays too.
    assert!(matches!(put("/r/p/a", 0, along("2", one)).await, Outcome::Conflict(Some(_))));
    assert_eq!(store.get("/r/q/a").await.expect("get").kv.map(|kv| kv.mod_revision), Some(one));
    let two = done(put("/r/p/a", one, along("2", one)).await);
    assert_eq!(store.get("/r/q/a").await.expect("get").kv.map(|kv| kv.mod_revision), Some(two));
}

async fn lists(store: &dyn Storage) {
    let mut revisions = Vec::new();
    for n in 0..5 {
        let key = format!("/r/l/{n}");
        revisions.push(done(store.create(&key, Bytes::from(n.to_string()), None).await.expect("create")));
    }
    done(store.create("/r/m/x", Bytes::from("x"), None).await.expect("create"));
    let end = prefix_end("/r/l/");
    let page = store.list("/r/l/", &end, 2, None).await.expect("list");
    assert_eq!((page.kvs.len(), page.more, page.count), (2, true, 5));
    let rest = store.list("/r/l/1\0", &end, 0, Some(page.revision)).await.expect("list");
    assert_eq!(rest.kvs.iter().map(|kv| kv.key.as_str()).collect::<Vec<_>>(), ["/r/l/2", "/r/l/3", "/r/l/4"]);
    assert!(!rest.more);
    let old = store.list("/r/l/", &end, 0, Some(revisions[1])).await.expect("list");
    assert_eq!((old.kvs.len(), old.revision), (2, revisions[1]));
    assert!(matches!(store.list("/r/l/", &end, 0, Some(page.revision + 1000)).await, Err(Error::Future(_))));
}

async fn watches(store: &dyn Storage) {
    let one = done(store.create("/r/x/a", Bytes::from("1"), None).await.expect("create"));
    let two = done(store.update("/r/x/a", Bytes::from("2"), one, None).await.expect("update"));
    let mut watch = store.watch("/r/x/", one).await.expect("watch");
    assert_eq!(next_events(&mut watch, 1).await, ["put /r/x/a=2"]);
    done(store.create("/r/y/a", Bytes::from("other"), None).await.expect("create"));
    done(store.delete("/r/x/a", two).await.expect("delete"));
    done(store.create("/r/x/b", Bytes::from("3"), None).await.expect("create"));
    assert_eq!(next_events(&mut watch, 2).await, ["delete /r/x/a", "put /r/x/b=3"]);
    let aside = done(store.create("/r/y/b", Bytes::from("other"), None).await.expect("create"));
    loop {
        store.request_progress().await;
        match next(&mut watch).await.expect("progress") {
            Batch::Progress(at) if at >= aside => break,
            Batch::Progress(_) => {}
            Batch::Events(events) => panic!("unexpected {events:?}"),
        }
    }
}

async fn compaction(store: &dyn Storage) {
    let one = done(store.create("/r/c/a", Bytes::from("1"), None).await.expect("create"));
    let two = done(store.update("/r/c/a", Bytes::from("2"), one, None).await.expect("update"));
    let (counter, newest) = store.compact(0, 0).await.expect("compact");
    assert!(newest >= two);
    let (counter, _) = store.compact(two, counter).await.expect("compact");
    let (unchanged, _) = store.compact(newest, counter + 7).await.expect("compact");
    assert_eq!(unchanged, counter, "another's counter means somebody else compacts");
    let end = prefix_end("/r/c/");
    assert!(matches!(store.list("/r/c/", &end, 0, Some(one)).await, Err(Error::Compacted(_))));
    assert_eq!(store.list("/r/c/", &end, 0, Some(two)).await.expect("list").kvs.len(), 1);
    let mut watch = store.watch("/r/c/", one - 1).await.expect("watch");
    assert!(matches!(next(&mut watch).await, Err(Error::Compacted(_))));
}

async fn contract(store: &dyn Storage) {
    writes(store).await;
    writes_along(store).await;
    lists(store).await;
    watches(store).await;
    compaction(store).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&Memory::default()).await;
}

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let (_server, store) = on_etcd().await;
    contract(&*store).await;
}

#[tokio::test]
async fn etcd_drops_keys_when_their_time_is_up() {
    let (_server, store) = on_etcd().await;
    let at =
        done(store.create("/r/t/a", Bytes::from("1"), Some(Duration::from_secs(1))).await.expect("create"));
    let mut watch = store.watch("/r/t/", at).await.expect("watch");
    assert_eq!(next_events(&mut watch, 1).await, ["delete /r/t/a"]);
}

#[tokio::test]
async fn etcd_away_is_an_error_in_time() {
    daemon::init_crypto();
    let [port] = common::free_ports();
    let options = Options { endpoints: vec![format!("http://127.0.0.1:{port}")], ..Options::default() };
    let store = Etcd::connect(&options, "/registry").await.expect("client");
    assert!(matches!(store.revision().await, Err(Error::Unavailable(_) | Error::Timeout(_))));
}
