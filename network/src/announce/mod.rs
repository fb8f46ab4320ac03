//! Addresses of Services of type LoadBalancer on this node's link.
//!
//! Each address in use is a Lease (cloud-controller-manager makes it). One node holds it, renews it while it can reach the
//! API server, and answers for the address: ARP for IPv4, neighbour discovery for IPv6. The kernel is told nothing: kube-proxy
//! translates packets to the address before they are routed, and answering is all that leads them here. So nothing is
//! left behind by an agent that dies, and its silence lets the next one in.
//!
//! [`plan`] decides, [`lease`] writes Leases, [`link`] and its parts talk on links, [`endpoints`] follows what Services
//! with policy Local run where.

pub mod endpoints;
pub mod frame;
pub mod lease;
pub mod link;
mod neighbour;
pub mod plan;
mod work;

pub use work::Announcer;

/// Where the Leases are.
pub const NAMESPACE: &str = "coxswain-load-balancer";
