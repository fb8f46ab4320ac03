//! Reading API objects held as JSON, and moments in the zone of whoever reads.

pub use coxctl_kit::dig::*;
use jiff::tz::TimeZone;
use serde_json::Value;

/// The zone moments are shown in: this machine's; tests are everywhere at once.
pub fn zone() -> TimeZone {
    if cfg!(test) { TimeZone::UTC } else { TimeZone::system() }
}

/// A moment as `Mon, 02 Jan 2006 15:04:05 +0000` in the zone of this machine; the year one when missing.
pub fn date(value: &Value, path: &str) -> String {
    match moment(value, path) {
        Some(at) => at.to_zoned(zone()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".into(),
    }
}
