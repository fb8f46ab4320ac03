//! Approves the serving certificates kubelets ask for themselves: a node may serve under exactly the names and
//! addresses its Node object shows. Whatever else asks for this signer is left to others, with an event that says why.
//! `--controllers=*,-csrservingapproving` turns it off.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue, events};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::request::Request;
use super::{add, condition, issued};
use crate::kit::{Context, Write};

const SIGNER: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const USER: &str = "system:node:";
const BY_NODE: &str = "serving certificates wanted by node";

/// Starts the approver.
pub fn start(context: Context) {
    let requests: Cache<Csr> = context.caches.of();
    let nodes = context.nodes();
    requests.add_index(BY_NODE, |csr| {
        let node = csr.spec.username.as_deref().unwrap_or_default().strip_prefix(USER);
        node.filter(|_| pending(csr)).map(String::from).into_iter().collect()
    });
    let queue: Queue<Key> = Queue::with_backoff(Duration::from_millis(20), Duration::from_secs(1000));
    let q = queue.clone();
    requests.handle(move |event| {
        if event.new.as_deref().is_some_and(pending) {
            q.add(event.key.clone());
        }
    });
    let (q, waiting) = (queue.clone(), requests.clone());
    nodes.handle(move |event| {
        let Some(node) = event.new.as_deref() else { return };
        if event.old.as_deref().is_none_or(|old| addresses(old) != addresses(node)) {
            waiting.by_index(BY_NODE, &event.key.name).iter().for_each(|csr| q.add(Key::of(&**csr)));
        }
    });
    let room = Arc::new((context.clone(), requests, nodes));
    let options = Options::new("certificatesigningrequest-serving-approving-controller", 5);
    context.run(options, queue, move |key| {
        let room = room.clone();
        async move { sync(&room.0, &room.1, &room.2, &key).await }
    });
}

async fn sync(context: &Context, requests: &Cache<Csr>, nodes: &Cache<Node>, key: &Key) -> Outcome {
    let Some(csr) = requests.get_key(key).filter(|csr| pending(csr)) else { return Ok(None) };
    match judge(&csr, |name| nodes.get("", name)) {
        Ok(()) => {
            const WHY: &str = "Auto approving kubelet serving certificate: its names are those of its Node.";
            tracing::info!(csr = %key, user = csr.spec.username, "approving serving certificate");
            let approved = add(&csr, "Approved", "AutoApproved", WHY);
            context.writer.send(&Write::update(&approved).subresource("approval")).await?;
        }
        Err(why) => {
            tracing::info!(csr = %key, user = csr.spec.username, why, "serving certificate is not approved");
            context.recorder.warning(&events::reference(&*csr), "NotAutoApproved", why);
        }
    }
    Ok(None)
}

/// Whether a request is for this signer and nobody has decided.
fn pending(csr: &Csr) -> bool {
    let decided = ["Approved", "Denied", "Failed"].iter().any(|kind| condition(csr, kind).is_some());
    csr.spec.signer_name == SIGNER && !issued(csr) && !decided
}

fn addresses(node: &Node) -> &[NodeAddress] {
    node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default()
}

/// Whether a request may be approved, else why not (yet): a change of the Node asks again.
fn judge(csr: &Csr, node_of: impl Fn(&str) -> Option<Arc<Node>>) -> Result<(), String> {
    let request = Request::parse(&csr.spec.request.0).map_err(|error| format!("{error:#}"))?;
    request.is_kubelet_serving(csr.spec.usages.as_deref().unwrap_or_default())?;
    if request.others > 0 {
        return Err("subjectAltNames other than DNS names and IP addresses are not allowed".into());
    }
    let user = csr.spec.username.as_deref().unwrap_or_default();
    let name = user.strip_prefix(USER).filter(|name| !name.is_empty());
    let Some(name) = name.filter(|_| csr.spec.groups.iter().flatten().any(|g| g == NODES)) else {
        return Err(format!("requested by {user:?}, which is not a node"));
    };
    if request.common_name != user {
        return Err(format!("common name {:?} is not the requesting user {user:?}", request.common_name));
    }
    let node = node_of(name).ok_or_else(|| format!("Node {name:?} is not there (yet)"))?;
    match foreign(&request, addresses(&node)) {
        strange if strange.is_empty() => Ok(()),
        strange => Err(format!(
            "not (yet) among the addresses of Node {name:?}: {}",
            Vec::from_iter(strange).join(", ")
        )),
    }
}

/// The names and addresses of a request that a node does not have.
fn foreign(request: &Request, addresses: &[NodeAddress]) -> BTreeSet<String> {
    const KINDS: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];
    let own = || addresses.iter().filter(|a| KINDS.contains(&a.type_.as_str())).map(|a| a.address.as_str());
    let ips: BTreeSet<IpAddr> = own().filter_map(|a| a.parse().ok()).collect();
    let named = |name: &str| own().any(|a| a.eq_ignore_ascii_case(name));
    let names = request.dns.iter().filter(|n| !named(n)).cloned();
    names.chain(request.ips.iter().filter(|ip| !ips.contains(ip)).map(IpAddr::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    /// `name type=address…`
    fn node(line: &str) -> Arc<Node> {
        let mut node = Node::default();
        let pair = |w: &str| w.split_once('=').map(|(t, a)| (t.to_string(), a.to_string()));
        let list = line.split_whitespace().filter_map(pair);
        let list = list.map(|(type_, address)| NodeAddress { type_, address }).collect();
        node.status.get_or_insert_default().addresses = Some(list);
        Arc::new(node)
    }

    fn csr(user: &str, sans: &[&str]) -> Csr {
        let mut csr = Csr::default();
        csr.spec.signer_name = SIGNER.into();
        csr.spec.username = Some(user.into());
        csr.spec.groups = Some(vec![NODES.into(), "system:authenticated".into()]);
        csr.spec.usages = Some(vec!["digital signature".into(), "server auth".into()]);
        let pem = super::super::request::tests::pem("system:node:a", &[NODES], sans);
        csr.spec.request = ByteString(pem.into_bytes());
        csr
    }

    fn verdict(csr: &Csr, node_line: Option<&str>) -> String {
        judge(csr, |name| node_line.filter(|_| name == "a").map(node)).err().unwrap_or_else(|| "yes".into())
    }

    const NODE: Option<&str> =
        Some("Hostname=a InternalIP=10.0.0.1 InternalIP=fd00::1 ExternalDNS=a.example Other=b");

    #[test]
    fn a_node_may_serve_under_its_own_names_only() {
        let ask = |sans: &[&str]| verdict(&csr("system:node:a", sans), NODE);
        assert_eq!(ask(&["a", "10.0.0.1"]), "yes");
        assert_eq!(ask(&["A.example", "fd00:0::1"]), "yes");
        assert_eq!(ask(&["a", "b", "10.0.0.2"]), "not (yet) among the addresses of Node \"a\": 10.0.0.2, b");
        assert_eq!(ask(&[]), "DNS or IP subjectAltName is required");
    }

    #[test]
    fn only_the_node_itself_may_ask() {
        let good = csr("system:node:a", &["a"]);
        assert_eq!(verdict(&good, None), "Node \"a\" is not there (yet)");
        let other = csr("system:node:b", &["a"]);
        assert!(verdict(&other, NODE).contains("is not the requesting user"));
        assert!(verdict(&csr("kubernetes-admin", &["a"]), NODE).contains("not a node"));
        let mut outsider = good.clone();
        outsider.spec.groups = Some(vec!["system:authenticated".into()]);
        assert!(verdict(&outsider, NODE).contains("not a node"));
        let mut client = good.clone();
        client.spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
        assert_eq!(verdict(&client, NODE), "usages did not match the signer's");
    }

    #[test]
    fn what_is_decided_is_left_alone() {
        let good = csr("system:node:a", &["a"]);
        assert!(pending(&good));
        assert!(["Approved", "Denied", "Failed"].iter().all(|kind| !pending(&add(&good, kind, "x", "y"))));
        let mut client = good;
        client.spec.signer_name = super::super::KUBELET_CLIENT.into();
        assert!(!pending(&client));
    }
}
