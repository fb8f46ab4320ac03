//! metrics-server: what nodes and pods use, read from every kubelet's `/metrics/resource` and served as metrics.k8s.io
//! through the API server's aggregation, for `kubectl top` and the HorizontalPodAutoscaler.
//!
//! [`scrape`] asks the kubelets ([`kubelet`] is the client, [`decode`] reads their text), [`store`] keeps the last two
//! points of everything and makes rates of them, [`api`] answers from it. [`objects`] and [`table`] are the forms of the
//! answers, [`accept`] chooses among them.

pub mod accept;
pub mod api;
pub mod decode;
pub mod discovery;
pub mod flags;
pub mod kubelet;
pub mod metrics;
pub mod objects;
pub mod run;
pub mod scrape;
pub mod store;
pub mod table;
pub mod watch;
