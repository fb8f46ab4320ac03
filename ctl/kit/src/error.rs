//! What can go wrong, in kubectl's words.

use serde_json::Value;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure a verb reports. Its `Display` is the bare message, without the prefix [`report`] puts before it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error("{}", .0.message)]
    Api(Box<Status>),
    /// The server could not be reached; the text is the whole sentence.
    #[error("{0}")]
    Unreachable(String),
    /// Printed with `error: ` before it, unless it is there already.
    #[error("{0}")]
    Message(String),
    /// Printed as it is.
    #[error("{0}")]
    Plain(String),
    /// Several failures, each on a line of its own.
    #[error("{}", join(.0))]
    Many(Vec<Error>),
    /// Nothing more to say; the exit code.
    #[error("exit status {0}")]
    Exit(i32),
    /// A message as it is, with an exit code of its own.
    #[error("{0}")]
    Code(String, i32),
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) }
}

/// A `Status` object, or what stands for one when the server sent none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// `details`, null when there are none.
    pub details: Value,
}

impl Status {
    /// Reads a Status object.
    pub fn read(value: &Value) -> Option<Status> {
        if value["kind"] != "Status" {
            return None;
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        let code = value["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
        Some(Status {
            code,
            reason: text("reason"),
            message: text("message"),
            details: value["details"].clone(),
        })
    }

    /// What an answer that isn't a Status means, by its HTTP code; `what` names verb and object.
    pub fn generic(code: u16, method: &str, body: &str) -> Status {
        let (reason, message) = words(code, method);
        let mut message = message;
        if reason == "InternalError" && !body.is_empty() {
            message = format!(
                "an error on the server ({}) has prevented the request from succeeding",
                quoted(body)
            );
        } else if reason.is_empty() {
            message = format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
        Status { code, reason: reason.into(), message, details: Value::Null }
    }
}

fn quoted(body: &str) -> String {
    let text = format!("{:?}", body.trim());
    if text == "\"\"" { "\"unknown\"".into() } else { text }
}

fn words(code: u16, method: &str) -> (&'static str, String) {
    let verb = method.to_lowercase();
    let (reason, message) = match code {
        400 => ("BadRequest", "the server rejected our request for an unknown reason".to_string()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".into()),
        403 => ("Forbidden", "the server does not allow access to the requested resource".into()),
        404 => ("NotFound", "the server could not find the requested resource".into()),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".into()),
        406 => ("NotAcceptable", "the server was unable to respond with a content type that the client supports".into()),
        409 if verb == "post" => ("AlreadyExists", "the server reported a conflict".into()),
        409 => ("Conflict", "the server reported a conflict".into()),
        413 => ("RequestEntityTooLarge", "Request entity too large".into()),
        415 => ("UnsupportedMediaType", "the body of the request was in an unknown format".into()),
        422 => ("Invalid", "the server rejected our request due to an error in our request".into()),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later".into()),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".into()),
        504 => ("Timeout", "the server was unable to return a response in the time allotted, but may still be processing the request".into()),
        500.. => ("InternalError", "an error on the server (\"unknown\") has prevented the request from succeeding".into()),
        _ => ("", String::new()),
    };
    (reason, message)
}

impl Error {
    /// An `error: …` line.
    pub fn message(text: impl Into<String>) -> Error {
        Error::Message(text.into())
    }

    /// Several failures as one; one failure stays itself.
    pub fn many(mut errors: Vec<Error>) -> Error {
        if errors.len() == 1 { errors.remove(0) } else { Error::Many(errors) }
    }

    /// The server's Status, if it sent one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Api(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the server gave this reason: `NotFound`, `Conflict`, ….
    pub fn is(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    pub fn is_not_found(&self) -> bool {
        self.is("NotFound")
    }

    pub fn is_conflict(&self) -> bool {
        self.is("Conflict")
    }

    pub fn is_already_exists(&self) -> bool {
        self.is("AlreadyExists")
    }

    /// Says what was being done to what: `error when creating "x.yaml": …`.
    pub fn when(self, verb: &str, source: &str) -> Error {
        let wrap = |message: &str| format!("error when {verb} {source:?}: {message}");
        match self {
            Error::Api(mut status) => {
                status.message = wrap(&status.message);
                Error::Api(status)
            }
            Error::Message(text) => Error::Message(wrap(&text)),
            other => Error::Message(wrap(&other.to_string())),
        }
    }

    /// The lines for standard error, and the exit code.
    pub fn printed(&self) -> (String, i32) {
        match self {
            Error::Exit(code) => (String::new(), *code),
            Error::Code(text, code) => (text.clone(), *code),
            Error::Many(errors) => (errors.iter().map(|error| line(&error.standard())).collect(), 1),
            Error::Api(status) if status.reason == "Invalid" => (invalid(status), 1),
            Error::Message(text) if !text.starts_with("error: ") => (format!("error: {text}"), 1),
            other => (other.standard(), 1),
        }
    }

    /// The message as it stands among several.
    fn standard(&self) -> String {
        match self {
            Error::Api(status) if status.reason == "Unauthorized" => {
                format!("error: You must be logged in to the server ({})", status.message)
            }
            Error::Api(status) if status.reason.is_empty() => {
                format!("Error from server: {}", status.message)
            }
            Error::Api(status) => format!("Error from server ({}): {}", status.reason, status.message),
            other => other.to_string(),
        }
    }
}

fn line(text: &str) -> String {
    if text.ends_with('\n') { text.into() } else { format!("{text}\n") }
}

/// What a refused object's Status says: the object, and a line for each cause.
fn invalid(status: &Status) -> String {
    let details = &status.details;
    let text = |key: &str| details[key].as_str().unwrap_or_default();
    if details.is_null() {
        return format!("The request is invalid: {}", status.message);
    }
    let causes = causes(details);
    let head = match (text("kind"), text("name")) {
        ("", "") if causes.is_empty() && !status.message.is_empty() => {
            format!("The request is invalid: {}", status.message)
        }
        ("", "") => "The request is invalid".to_string(),
        (kind, name) => format!("The {kind} {name:?} is invalid"),
    };
    match causes.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => many.iter().fold(format!("{head}: \n"), |all, cause| format!("{all}* {cause}\n")),
    }
}

fn causes(details: &Value) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for cause in details["causes"].as_array().into_iter().flatten() {
        let text = |key: &str| cause[key].as_str().unwrap_or_default();
        let said = format!("{}: {}", text("field"), text("message"));
        if !out.contains(&said) {
            out.push(said);
        }
    }
    out
}

/// Prints a verb's failure to standard error as kubectl would; the exit code is returned.
pub fn report(error: &anyhow::Error) -> i32 {
    let (text, code) = match error.downcast_ref::<Error>() {
        Some(error) => error.printed(),
        None => Error::Message(format!("{error:#}")).printed(),
    };
    if !text.is_empty() {
        crate::out::note(text.strip_suffix('\n').unwrap_or(&text));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_read_as_kubectls() {
        let invalid = |causes: Value| {
            Error::Api(Box::new(Status::read(&json!({"kind": "Status", "reason": "Invalid", "code": 422, "message": "m", "details": {"kind": "Pod", "name": "a", "causes": causes}})).unwrap_or_default()))
        };
        let api = |reason: &str| {
            Error::Api(Box::new(Status { reason: reason.into(), message: "m".into(), ..Status::default() }))
        };
        let table = [
            (api("NotFound"), "Error from server (NotFound): m"),
            (api(""), "Error from server: m"),
            (api("Unauthorized"), "error: You must be logged in to the server (m)"),
            (Error::message("x"), "error: x"),
            (Error::message("error: x"), "error: x"),
            (
                invalid(json!([{"field": "spec.a", "message": "bad"}])),
                "The Pod \"a\" is invalid: spec.a: bad",
            ),
            (
                invalid(json!([{"field": "b", "message": "1"}, {"field": "c", "message": "2"}])),
                "The Pod \"a\" is invalid: \n* b: 1\n* c: 2\n",
            ),
            (Error::Many(vec![api("NotFound"), Error::message("y")]), "Error from server (NotFound): m\ny\n"),
            (
                api("NotFound").when("creating", "f.yaml"),
                "Error from server (NotFound): error when creating \"f.yaml\": m",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.printed(), (text.to_string(), 1));
        }
    }
}
