//! coxswain-balancer's command line.

fn main() {}
