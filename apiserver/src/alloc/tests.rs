//! Two allocators on one store never give out the same.

use super::addresses::{self, Book, Owner};
use super::ports::{Ports, Refused};
use crate::storage::memory::Memory;
use crate::storage::{Outcome, Storage};
use async_trait::async_trait;
use bytes::Bytes;
use ipnet::IpNet;
use machinery::status::Status;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// A book on a bare store that sees nothing beforehand: every conflict is found by the claim itself.
struct Keys(Arc<dyn Storage>);

#[async_trait]
impl Book for Keys {
    fn looks_taken(&self, _: &IpAddr) -> bool {
        false
    }

    async fn claim(&self, ip: &IpAddr, owner: &Owner) -> Result<bool, Status> {
        let done = self.0.create(&format!("/ips/{ip}"), Bytes::from(owner.name.clone()), None).await;
        done.map(|o| matches!(o, Outcome::Done(_))).map_err(Status::internal)
    }

    async fn release(&self, ip: &IpAddr) {
        let key = format!("/ips/{ip}");
        if let Ok(Some(kv)) = self.0.get(&key).await.map(|r| r.kv) {
            let _ = self.0.delete(&key, kv.mod_revision).await;
        }
    }
}

fn owner(name: &str) -> Owner {
    Owner { namespace: "d".into(), name: name.into() }
}

fn ranges(text: &str) -> Vec<IpNet> {
    text.split(',').filter_map(|r| r.parse().ok()).collect()
}

#[tokio::test]
async fn two_servers_share_a_range_without_collision() {
    let store: Arc<dyn Storage> = Arc::new(Memory::default());
    let ranges = ranges("10.0.0.0/25");
    let mut tasks = Vec::new();
    for server in 0..2 {
        let (store, ranges) = (store.clone(), ranges.clone());
        tasks.push(tokio::spawn(async move {
            let book = Keys(store);
            let mut got = Vec::new();
            for _ in 0..63 {
                match addresses::allocate(&book, &ranges, "IPv4", &owner(&format!("s{server}")), false).await
                {
                    Ok(ip) => got.push(ip),
                    Err(why) => panic!("{why}"),
                }
                tokio::task::yield_now().await;
            }
            got
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap_or_default());
    }
    assert_eq!(all.len(), 126);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 126);
    let full = addresses::allocate(&Keys(store), &ranges, "IPv4", &owner("x"), false).await;
    assert_eq!(full.map_err(|e| e.to_string()), Err("range is full".into()));
}

#[tokio::test]
async fn upper_part_first_and_requests_honoured() {
    let store: Arc<dyn Storage> = Arc::new(Memory::default());
    let (book, ranges) = (Keys(store), ranges("10.0.0.0/24"));
    let dns: IpAddr = IpAddr::from([10, 0, 0, 10]);
    assert!(addresses::reserve(&book, &ranges, dns, &owner("dns"), false).await.is_ok());
    let again = addresses::reserve(&book, &ranges, dns, &owner("other"), false).await;
    assert_eq!(again.map_err(|e| e.to_string()), Err("provided IP is already allocated".into()));
    let outside = addresses::reserve(&book, &ranges, IpAddr::from([10, 1, 0, 1]), &owner("o"), false).await;
    let why = "the provided IP (10.1.0.1) is not in the valid range. The range of valid IPs is 10.0.0.0/24";
    assert_eq!(outside.map_err(|e| e.to_string()), Err(why.into()));
    for _ in 0..100 {
        match addresses::allocate(&book, &ranges, "IPv4", &owner("a"), false).await {
            Ok(IpAddr::V4(ip)) => assert!(ip.octets()[3] > 16, "{ip}"),
            other => panic!("{other:?}"),
        }
    }
    book.release(&dns).await;
    assert!(addresses::reserve(&book, &ranges, dns, &owner("dns"), false).await.is_ok());
}

fn ports(store: &Arc<dyn Storage>, last: u16) -> Ports {
    Ports::new(store.clone(), "/registry", (30000, last))
}

#[tokio::test]
async fn two_servers_share_the_ports_without_collision() {
    let store: Arc<dyn Storage> = Arc::new(Memory::default());
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let record = ports(&store, 30099);
        tasks.push(tokio::spawn(async move {
            let mut got = Vec::new();
            for _ in 0..25 {
                got.extend(record.take(&[0, 0], false).await.unwrap_or_default());
                tokio::task::yield_now().await;
            }
            got
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap_or_default());
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 100);
    assert!(matches!(ports(&store, 30099).take(&[0], false).await, Err(Refused::Full)));
}

#[tokio::test]
async fn ports_are_all_or_nothing() {
    let store: Arc<dyn Storage> = Arc::new(Memory::default());
    let record = ports(&store, 32767);
    assert_eq!(record.take(&[30080], false).await.unwrap_or_default(), [30080]);
    let refused = record.take(&[30081, 30080], false).await;
    assert_eq!(refused.map_err(|e| e.to_string()), Err("provided port is already allocated".into()));
    assert_eq!(record.taken().await.unwrap_or_default(), [30080]);
    let outside = record.take(&[80], false).await;
    let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    assert_eq!(outside.map_err(|e| e.to_string()), Err(why.into()));
    assert_eq!(record.take(&[30090], true).await.unwrap_or_default(), [30090]);
    assert_eq!(record.taken().await.unwrap_or_default(), [30080]);
    assert!(record.release(&[30080]).await.is_ok());
    assert!(record.taken().await.unwrap_or_default().is_empty());
}
