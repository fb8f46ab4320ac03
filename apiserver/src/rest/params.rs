//! Query parameters.

use machinery::field::{FieldError, Path};
use machinery::selector::{FieldSelector, LabelSelector};
use machinery::status::Status;

/// A query string taken apart.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of a parameter; empty when absent.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether a parameter is there.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// A boolean as Go reads one from a query: absent, `0` and `false` are false, everything else is true.
    pub fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key).to_ascii_lowercase().as_str(), "0" | "false")
    }

    /// A number, if there is one.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => {
                    Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
                }
            },
        }
    }
}

/// Undoes percent-encoding, and `+` for a space.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (byte, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// How a list's resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// As new as that, or newer.
    NotOlderThan,
    /// Just that.
    Exact,
}

/// ListOptions.
#[derive(Debug, Clone, Default)]
pub struct ListParams {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Page size; 0 for all.
    pub limit: usize,
    /// Where to go on.
    pub continue_: String,
    /// None when absent, 0 for "any".
    pub version: Option<u64>,
    /// How the version is meant.
    pub matching: Option<Match>,
    /// Watch instead of list.
    pub watch: bool,
    /// Bookmarks are welcome.
    pub bookmarks: bool,
    /// Whether a watch starts with what there is.
    pub send_initial: Option<bool>,
    /// Life of a watch in seconds.
    pub timeout: Option<u64>,
}

impl ListParams {
    /// Reads ListOptions from a query.
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        let bad = |why: String| Status::bad_request(format!("unable to parse requirement: {why}"));
        let labels = LabelSelector::parse(query.get("labelSelector")).map_err(bad)?;
        let fields = FieldSelector::parse(query.get("fieldSelector")).map_err(Status::bad_request)?;
        let send_initial = query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents"));
        let params = Self {
            labels,
            fields,
            limit: query.number("limit")?.unwrap_or(0).max(0) as usize,
            continue_: query.get("continue").to_owned(),
            version: version(query.get("resourceVersion"), query.flag("watch"))?,
            matching: None,
            watch: query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial,
            timeout: query.number("timeoutSeconds")?.filter(|s| *s > 0).map(|s| s as u64),
        };
        params.with_match(query.get("resourceVersionMatch"))
    }

    fn with_match(mut self, text: &str) -> Result<Self, Status> {
        let errors = self.mix_errors(text);
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors));
        }
        self.matching = match text {
            "Exact" => Some(Match::Exact),
            "NotOlderThan" => Some(Match::NotOlderThan),
            _ => None,
        };
        Ok(self)
    }

    fn mix_errors(&self, matching: &str) -> Vec<FieldError> {
        let at = Path::new("resourceVersionMatch");
        let forbidden = |why: &str| vec![FieldError::forbidden(&at, why)];
        if !matches!(matching, "" | "Exact" | "NotOlderThan") {
            let supported = ["Exact", "NotOlderThan", ""];
            return vec![FieldError::not_supported(&at, matching, &supported)];
        }
        if self.send_initial.is_some() && !self.watch {
            return vec![FieldError::forbidden(
                &Path::new("sendInitialEvents"),
                "sendInitialEvents is forbidden for list",
            )];
        }
        if self.send_initial.is_some() && matching != "NotOlderThan" {
            return forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if matching.is_empty() || self.send_initial.is_some() {
            return Vec::new();
        }
        if self.watch {
            return forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !self.continue_.is_empty() {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        match (self.version, matching) {
            (None, _) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
            (Some(0), "Exact") => {
                forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            _ => Vec::new(),
        }
    }
}

/// A resourceVersion; None when empty.
pub fn version(text: &str, watch: bool) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let why = || format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    match text.parse() {
        Ok(version) => Ok(Some(version)),
        Err(_) if watch => {
            let error = FieldError::invalid(&Path::new("resourceVersion"), text, why());
            Err(Status::invalid("", "", "", vec![error]))
        }
        Err(_) => Err(Status::bad_request(format!("invalid resource version {text:?}: {}", why()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query =
            Query::parse("labelSelector=app%3Dx%2Ctier+in+%28a%29&watch=1&limit=5&command=a&command=b");
        assert_eq!(query.get("labelSelector"), "app=x,tier in (a)");
        assert!(query.flag("watch") && !query.flag("pretty"));
        assert_eq!(query.all("command"), ["a", "b"]);
        assert_eq!(decode("100%"), "100%");
    }

    #[test]
    fn mixes() {
        let check = |q: &str| ListParams::from_query(&Query::parse(q)).map(|_| ()).map_err(|s| s.code);
        for good in [
            "",
            "resourceVersion=0",
            "resourceVersion=5&resourceVersionMatch=Exact",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=5&resourceVersionMatch=Maybe",
            "watch=1&resourceVersion=5&resourceVersionMatch=NotOlderThan",
            "watch=1&sendInitialEvents=true",
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "continue=x&resourceVersion=5&resourceVersionMatch=Exact",
        ] {
            assert_eq!(check(bad), Err(422), "{bad}");
        }
        assert_eq!(check("resourceVersion=abc"), Err(400));
        assert_eq!(check("labelSelector=%3D%3D"), Err(400));
    }
}
