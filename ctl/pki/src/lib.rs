//! A cluster's certificates and kubeconfigs: kubeadm's files, names and identities; made, checked, renewed.

pub mod authority;
pub mod kubeconfig;
