//! HTTP extenders: programs beside the scheduler that filter, score, bind and choose victims.

/// Stands for all extenders among the plugins that refused a pod: any event may change their minds.
pub const NAME: &str = "Extender";
