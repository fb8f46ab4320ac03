//! Refused lists.

use crate::print::gotext::quote;
use crate::{Error, Kind, ListOptions};

/// What a refused list was about, in kubectl's words.
pub fn listing(error: Error, kind: &Kind, options: &ListOptions) -> Error {
    let Error::Api(mut status) = error else { return error };
    if status.reason == "BadRequest" || status.reason == "NotFound" {
        let resource = quote(&format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural));
        let text = |selector: &Option<String>| selector.clone().unwrap_or_default();
        let (labels, fields) = (text(&options.labels), text(&options.fields));
        status.message = match labels.is_empty() && fields.is_empty() {
            true => format!("Unable to list {resource}: {}", status.message),
            false => format!(
                "Unable to find {resource} that match label selector {}, field selector {}: {}",
                quote(&labels),
                quote(&fields),
                status.message
            ),
        };
    }
    Error::Api(status)
}
