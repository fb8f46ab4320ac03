//! kubeadm's configuration documents (v1beta4): read, defaulted, validated, migrated, printed.
