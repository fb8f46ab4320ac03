//! A node-local balancer: the daemons of a node reach any living API server through it.
