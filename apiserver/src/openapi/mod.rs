//! OpenAPI v2 and v3.

use std::sync::Arc;

use crate::app::App;
use crate::http::{Request, Response};

/// Answers `/openapi/v2` and `/openapi/v3/...`; None when the path is none of these.
pub fn handle(_app: &Arc<App>, _request: &Request) -> Option<Response> {
    None
}
