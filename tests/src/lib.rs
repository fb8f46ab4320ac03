//! coxswain-tests
