//! `create token`.

use crate::flags::{duration, error, one_name};
use crate::output::Printer;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Error, Globals, Write, out};
use serde_json::{Value, json};

/// Flags of `create token`.
#[derive(clap::Args, Clone, Debug)]
pub struct Token {
    /// SERVICE_ACCOUNT_NAME
    #[arg(value_name = "SERVICE_ACCOUNT_NAME")]
    pub names: Vec<String>,
    /// Audience of the requested token, may be repeated.
    #[arg(long)]
    pub audience: Vec<String>,
    /// Kind of an object to bind the token to: Node, Pod or Secret.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub bound_object_kind: String,
    /// Name of an object to bind the token to.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub bound_object_name: String,
    /// UID of an object to bind the token to.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub bound_object_uid: String,
    /// Requested lifetime of the issued token; the server decides when it is not set.
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    pub duration: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

impl Token {
    /// The TokenRequest's spec.
    fn spec(&self) -> Result<Value> {
        let mut spec = json!({"audiences": self.audience});
        if self.audience.is_empty() {
            spec["audiences"] = Value::Null;
        }
        let lifetime = match self.duration.strip_prefix('-') {
            Some(_) => return Err(error("--duration must be greater than or equal to 0")),
            None => duration(&self.duration)?,
        };
        if let Some(lifetime) = lifetime {
            if lifetime.subsec_nanos() != 0 {
                return Err(error("--duration cannot be expressed in units less than seconds"));
            }
            spec["expirationSeconds"] = json!(lifetime.as_secs());
        }
        if let Some(bound) = self.bound()? {
            spec["boundObjectRef"] = bound;
        }
        Ok(spec)
    }

    fn bound(&self) -> Result<Option<Value>> {
        let version = match self.bound_object_kind.as_str() {
            "" if !self.bound_object_name.is_empty() => {
                return Err(error("--bound-object-name can only be set if --bound-object-kind is provided"));
            }
            "" if !self.bound_object_uid.is_empty() => {
                return Err(error("--bound-object-uid can only be set if --bound-object-kind is provided"));
            }
            "" => return Ok(None),
            "Pod" | "Secret" | "Node" => "v1",
            _ => return Err(error("supported --bound-object-kind values are Node, Pod, Secret")),
        };
        if self.bound_object_name.is_empty() {
            return Err(error("--bound-object-name is required if --bound-object-kind is provided"));
        }
        let mut bound =
            json!({"apiVersion": version, "kind": self.bound_object_kind, "name": self.bound_object_name});
        if !self.bound_object_uid.is_empty() {
            bound["uid"] = json!(self.bound_object_uid);
        }
        Ok(Some(bound))
    }
}

/// Asks for a token and prints it.
pub async fn run(flags: &Token, globals: &Globals) -> Result<i32> {
    let name = one_name(&flags.names, "create token")?;
    let spec = flags.spec()?;
    let printer = Printer::new(&flags.out, crate::flags::DryRun::None)?;
    let cluster = globals.connect().await?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec});
    let accounts = coxctl_kit::Kind {
        version: "v1".into(),
        kind: "ServiceAccount".into(),
        plural: "serviceaccounts".into(),
        namespaced: true,
        ..coxctl_kit::Kind::default()
    };
    let namespace = cluster.namespace.clone();
    let made =
        cluster.create_sub(&accounts, Some(&namespace), name, "token", &request, &Write::default()).await;
    let made = made.map_err(|e| Error::message(format!("failed to create token: {e}")))?;
    if printer.prints_objects() {
        printer.done(&crate::typed::canonical(&made), "created")?;
        return Ok(0);
    }
    match made["status"]["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => out::line(token),
        None => return Err(error("failed to create token: no token in server response")),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: Token,
    }

    fn spec(args: &[&str]) -> Result<Value> {
        Line::parse_from([&["x", "sa"], args].concat()).token.spec()
    }

    #[test]
    fn specs() {
        assert_eq!(spec(&["--duration=1h"]).expect("a spec")["expirationSeconds"], json!(3600));
        let bound = spec(&["--bound-object-kind=Pod", "--bound-object-name=p"]).expect("a spec");
        assert_eq!(bound["boundObjectRef"], json!({"apiVersion": "v1", "kind": "Pod", "name": "p"}));
        for bad in [
            &["--duration=-1s"][..],
            &["--bound-object-kind=X"],
            &["--bound-object-kind=Pod"],
            &["--bound-object-name=p"],
            &["--duration=1500ms"],
        ] {
            assert!(spec(bad).is_err(), "{bad:?}");
        }
    }
}
