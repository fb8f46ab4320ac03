//! Bootstrap tokens: the secrets they are kept in, and the commands about them.

pub mod command;
pub mod secret;

pub use coxctl_pki::token::Token;
