//! coxswain-network
