//! From machines to a cluster: init, join, tokens, etcd members, upgrade, reset.
