//! /version.

use http::StatusCode;
use serde_json::json;

use crate::http::{self as web, Response};

/// The level of the API and who serves it. The part behind the plus sign is build metadata to those who parse it.
pub const GIT_VERSION: &str = "v1.36.2+coxswain";

/// Answers /version.
pub fn handle() -> Response {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = json!({
        "major": "1", "minor": "36",
        "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": option_env!("COXSWAIN_COMMIT").unwrap_or("unknown"),
        "gitTreeState": "clean",
        "buildDate": option_env!("COXSWAIN_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    });
    let text = serde_json::to_vec_pretty(&version).unwrap_or_default();
    web::reply(StatusCode::OK, "application/json", text)
}
