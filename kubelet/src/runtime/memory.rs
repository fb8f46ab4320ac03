//! The in-memory runtime: for tests and hollow nodes.
