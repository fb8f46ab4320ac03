//! What goes wrong between a controller and the API server.

use rand::Rng;
use rand::rngs::StdRng;

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Served,
    /// Turned away; nothing was done.
    Refused(u16, &'static str),
    /// Served, but the answer does not come.
    Unanswered,
    /// Given up on, and served later all the same.
    Late,
}

const REFUSALS: [(u16, &str); 3] =
    [(500, "InternalError"), (429, "TooManyRequests"), (503, "ServiceUnavailable")];

/// Draws a fate.
pub fn fate(rng: &mut StdRng, faults: bool) -> Fate {
    if !faults {
        return Fate::Served;
    }
    match rng.random_range(0..100) {
        0..7 => {
            let (code, reason) = REFUSALS[rng.random_range(0..REFUSALS.len())];
            Fate::Refused(code, reason)
        }
        7..11 => Fate::Unanswered,
        11..14 => Fate::Late,
        _ => Fate::Served,
    }
}
