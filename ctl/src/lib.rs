//! coxctl
