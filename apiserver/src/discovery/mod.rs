//! Discovery, plain and aggregated.

use std::sync::Arc;

use crate::app::App;
use crate::http::{Request, Response};

/// Answers `/api`, `/apis` and what lies directly below them; None when the path is none of these.
pub fn handle(_app: &Arc<App>, _request: &Request) -> Option<Response> {
    None
}
