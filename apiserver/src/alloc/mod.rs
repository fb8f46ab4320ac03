//! Service addresses and node ports.
