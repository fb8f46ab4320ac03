//! `expose`: a Service in front of something.

use crate::flags::{DryRun, DryRunFlag, error, write};
use crate::output::Printer;
use crate::overrides::{self, Overrides};
use crate::target::{Select, Target, each, select};
use crate::typed;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{FileArgs, Globals};
use serde_json::{Map, Value, json};

/// Flags of `expose`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// ClusterIP to be assigned to the service.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cluster_ip: String,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Additional external IP address to accept for the service.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub external_ip: String,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-expose")]
    pub field_manager: String,
    /// Labels to apply to the service created by this call.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub labels: String,
    /// IP to assign to the LoadBalancer.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub load_balancer_ip: String,
    /// The name for the newly created object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    #[command(flatten)]
    pub overrides: Overrides,
    /// The port that the service should serve on. Copied from the resource being exposed, if unspecified.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub port: String,
    /// The network protocol for the service to be created. Default is 'TCP'.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub protocol: String,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    /// A label selector to use for this service.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// If non-empty, set the session affinity for the service to this; legal values: 'None', 'ClientIP'.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub session_affinity: String,
    /// Name or number for the port on the container that the service should direct traffic to.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub target_port: String,
    /// Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName.
    #[arg(long = "type", default_value = "", hide_default_value = true)]
    pub kind: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?.typed();
    let cluster = globals.connect().await?;
    let chosen = Select {
        args: &flags.args,
        files: Some(&flags.files),
        nothing: Some(crate::set::NOTHING_NAMED.into()),
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    each(found, async |target| {
        let mut made = overrides::apply(&flags.build(&target)?, &flags.overrides)?;
        if cluster.namespace_given {
            made["metadata"]["namespace"] = json!(target.namespace);
        }
        let mut made = typed::canonical(&made);
        if flags.save_config {
            let text = typed::compact(&made) + "\n";
            made = crate::annotation::with_last_applied(made, &text);
        }
        if dry == DryRun::Client {
            return printer.done(&made, "exposed");
        }
        let kind = crate::create::generate::builtin(&made).ok_or_else(|| error("no such kind"))?;
        let created =
            cluster.create(&kind, target.ns(), &made, &write(&flags.field_manager, dry, None)).await?;
        printer.done(&created, "exposed")
    })
    .await
}

impl Flags {
    /// The Service for an object.
    fn build(&self, target: &Target) -> Result<Value> {
        let object = &target.object;
        if !can_be_exposed(&target.kind.kind) {
            return Err(error(format!("cannot expose a {}", target.kind.kind)));
        }
        let selector = match self.selector.as_str() {
            "" => Value::Object(selector_of(object)?),
            text => Value::Object(pairs(text)?),
        };
        let ports = self.ports(&ports_of(object))?;
        let labels = match self.labels.as_str() {
            "" => object["metadata"]["labels"].clone(),
            text => Value::Object(pairs(text)?),
        };
        let mut name = if self.name.is_empty() { target.name.clone() } else { self.name.clone() };
        name.truncate(63);
        let mut spec = json!({"selector": selector, "ports": ports});
        let more = [
            ("type", &self.kind),
            ("clusterIP", &self.cluster_ip),
            ("loadBalancerIP", &self.load_balancer_ip),
            ("sessionAffinity", &self.session_affinity),
        ];
        more.iter().filter(|(_, v)| !v.is_empty()).for_each(|(k, v)| spec[*k] = json!(v));
        if !self.external_ip.is_empty() {
            spec["externalIPs"] = json!([self.external_ip]);
        }
        if !matches!(self.session_affinity.as_str(), "" | "None" | "ClientIP") {
            return Err(error(format!("unknown session affinity: {}", self.session_affinity)));
        }
        let mut metadata = Map::from_iter([("name".to_string(), json!(name))]);
        if labels.is_object() {
            metadata.insert("labels".into(), labels);
        }
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
    }

    /// Ports of the Service; several get names, since they must.
    fn ports(&self, known: &[(String, String)]) -> Result<Vec<Value>> {
        let listed: Vec<(String, String)> = match self.port.as_str() {
            "" => known.to_vec(),
            text => text.split(',').map(|p| (p.to_string(), self.protocol_of(p, known))).collect(),
        };
        if listed.is_empty() {
            return Err(error("couldn't find port via --port flag or introspection"));
        }
        let many = listed.len() > 1;
        listed.iter().enumerate().map(|(at, port)| self.port(at, port, many)).collect()
    }

    fn protocol_of(&self, port: &str, known: &[(String, String)]) -> String {
        known.iter().find(|(p, _)| p == port).map_or_else(|| "TCP".into(), |(_, protocol)| protocol.clone())
    }

    fn port(&self, at: usize, (port, protocol): &(String, String), many: bool) -> Result<Value> {
        let number: i32 =
            port.parse().map_err(|_| error(format!("strconv.Atoi: parsing {port:?}: invalid syntax")))?;
        let protocol = if self.protocol.is_empty() { protocol.as_str() } else { &self.protocol };
        let target = match self.target_port.as_str() {
            "" => json!(number),
            text => text.parse::<i32>().map_or_else(|_| json!(text), |n| json!(n)),
        };
        let mut out = json!({"port": number, "protocol": protocol, "targetPort": target});
        if many {
            out["name"] = json!(format!("port-{}", at + 1));
        }
        Ok(out)
    }
}

fn can_be_exposed(kind: &str) -> bool {
    matches!(kind, "ReplicationController" | "Service" | "Pod" | "Deployment" | "ReplicaSet")
}

fn pairs(text: &str) -> Result<Map<String, Value>> {
    let pair = |part: &str| {
        let (key, value) =
            part.split_once('=').ok_or_else(|| error(format!("unexpected label spec: {part}")))?;
        Ok((key.to_string(), json!(value)))
    };
    text.split(',').map(pair).collect()
}

fn selector_of(object: &Value) -> Result<Map<String, Value>> {
    let (found, failure) = match object["kind"].as_str().unwrap_or_default() {
        "Pod" => (&object["metadata"]["labels"], "the pod has no labels and cannot be exposed"),
        "Service" => (&object["spec"]["selector"], "the service has no pod selector set"),
        "ReplicationController" => {
            (&object["spec"]["selector"], "the replication controller has no selector")
        }
        _ if object["spec"]["selector"].get("matchExpressions").is_some() => {
            return Err(error(format!(
                "couldn't convert expressions - \"{}\" to map-based selector format",
                object["spec"]["selector"]["matchExpressions"]
            )));
        }
        _ => (
            &object["spec"]["selector"]["matchLabels"],
            "invalid deployment: no selectors, therefore cannot be exposed",
        ),
    };
    let map = found.as_object().filter(|map| !map.is_empty());
    map.cloned().ok_or_else(|| {
        error(format!("couldn't retrieve selectors via --selector flag or introspection: {failure}"))
    })
}

/// Ports with their protocols: those of containers, or a Service's own.
fn ports_of(object: &Value) -> Vec<(String, String)> {
    let text = |port: &Value, key: &str| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_string();
        port[key].as_i64().map(|number| (number.to_string(), protocol))
    };
    if object["kind"] == "Service" {
        return object["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|p| text(p, "port"))
            .collect();
    }
    let pointer =
        crate::template::pod_spec_pointer(object["kind"].as_str().unwrap_or_default()).unwrap_or("/spec");
    let containers =
        object.pointer(pointer).and_then(|s| s["containers"].as_array()).cloned().unwrap_or_default();
    let ports = containers.iter().filter_map(|c| c["ports"].as_array()).flatten();
    ports.filter_map(|p| text(p, "containerPort")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_objects_say_about_themselves() {
        let deployment = json!({"kind": "Deployment", "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [
            {"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}]}}}});
        let want = [("80".to_string(), "TCP".to_string()), ("53".into(), "UDP".into())];
        assert_eq!(ports_of(&deployment), want);
        assert_eq!(selector_of(&deployment).ok().map(Value::Object), Some(json!({"a": "b"})));
        assert!(selector_of(&json!({"kind": "Pod", "metadata": {}})).is_err());
    }
}
