//! Generators of workloads: deployment, job, cronjob.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

/// `create deployment NAME --image=IMAGE [-- COMMAND]`.
#[derive(clap::Args, Clone, Debug)]
pub struct Deployment {
    /// Image names to run.
    #[arg(long, value_delimiter = ',')]
    pub image: Vec<String>,
    /// The containerPort that this deployment exposes.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub port: i64,
    /// Number of replicas to create.
    #[arg(short, long, default_value_t = 1, allow_hyphen_values = true)]
    pub replicas: i64,
    /// Command of the container.
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Deployment {
    /// The object.
    pub fn build(&self, name: &str) -> Result<Value> {
        if self.image.len() > 1 && !self.command.is_empty() {
            bail!("cannot specify multiple --image options and command");
        }
        let mut containers: Vec<Value> = self.image.iter().map(|i| self.container(i)).collect();
        if let (true, Some(first)) = (self.port >= 0, containers.first_mut()) {
            first["ports"] = json!([{ "containerPort": self.port }]);
        }
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
            },
        }))
    }

    fn container(&self, image: &str) -> Value {
        let mut container = json!({"name": container_name(image), "image": image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        container
    }
}

/// The image's last segment without tag and digest. Names that had to be changed get a random ending, since two
/// of them could have become equal.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    if name.contains(['_', '.']) {
        let name = name.replace(['_', '.'], "-");
        return format!("{name}-{}", machinery::names::random_suffix(5));
    }
    name.to_string()
}

/// `create job NAME --image=IMAGE | --from=cronjob/NAME [-- COMMAND]`.
#[derive(clap::Args, Clone, Debug)]
pub struct Job {
    /// Image name to run.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub image: String,
    /// The name of the resource to create a Job from (only cronjob is supported).
    #[arg(long, default_value = "", hide_default_value = true)]
    pub from: String,
    /// Command of the container.
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Job {
    /// Checks which flags go together.
    pub fn check(&self) -> Result<()> {
        match (self.image.is_empty(), self.from.is_empty(), self.command.is_empty()) {
            (true, true, _) | (false, false, _) => bail!("either --image or --from must be specified"),
            (_, false, false) => bail!("cannot specify --from and command"),
            _ => Ok(()),
        }
    }

    /// The object when an image is given.
    pub fn build(&self, name: &str) -> Value {
        let mut container = json!({"name": name, "image": self.image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
        })
    }
}

/// A job that does now what a cron job would do at its time.
pub fn job_of_cron_job(name: &str, cron_job: &Value) -> Value {
    let template = &cron_job["spec"]["jobTemplate"];
    let mut annotations =
        Map::from_iter([("cronjob.kubernetes.io/instantiate".to_string(), json!("manual"))]);
    annotations.extend(template["metadata"]["annotations"].as_object().cloned().unwrap_or_default());
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": annotations, "ownerReferences": [{
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": cron_job["metadata"]["name"],
            "uid": cron_job["metadata"]["uid"],
            "controller": true,
        }]},
        "spec": template["spec"],
    });
    if let labels @ Value::Object(_) = &template["metadata"]["labels"] {
        job["metadata"]["labels"] = labels.clone();
    }
    job
}

/// `create cronjob NAME --image=IMAGE --schedule='0/5 * * * ?' [-- COMMAND]`.
#[derive(clap::Args, Clone, Debug)]
pub struct CronJob {
    /// Image name to run.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub image: String,
    /// A schedule in the Cron format the job should be run with.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub schedule: String,
    /// Job's restart policy: OnFailure or Never.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub restart: String,
    /// Command of the container.
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl CronJob {
    /// The object.
    pub fn build(&self, name: &str) -> Value {
        let mut container = json!({"name": name, "image": self.image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        let restart = if self.restart.is_empty() { "OnFailure" } else { &self.restart };
        let pod = json!({"spec": {"containers": [container], "restartPolicy": restart}});
        json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name},
            "spec": {
                "schedule": self.schedule,
                "jobTemplate": {"metadata": {"name": name}, "spec": {"template": pod}},
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers() {
        for (image, want) in
            [("nginx", "nginx"), ("r:5000/a/nginx:1", "nginx"), ("x/y@sha256:00", "y"), ("a:1@sha256:0", "a")]
        {
            assert_eq!(container_name(image), want, "{image}");
        }
        let changed = container_name("my_app.io");
        assert!(changed.starts_with("my-app-io-") && changed.len() == 15, "{changed}");
    }

    #[test]
    fn deployments() {
        let flags =
            Deployment { image: vec!["a:1".into(), "b".into()], port: 80, replicas: 2, command: vec![] };
        let made = flags.build("d").expect("builds");
        let containers = &made["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0], json!({"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}));
        assert_eq!(containers[1], json!({"name": "b", "image": "b"}));
        let clash = Deployment { command: vec!["sh".into()], ..flags };
        assert!(clash.build("d").is_err());
    }

    #[test]
    fn jobs_of_cron_jobs() {
        let cron = json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"jobTemplate": {
            "metadata": {"labels": {"l": "1"}, "annotations": {"a": "b"}}, "spec": {"backoffLimit": 1}}}});
        let job = job_of_cron_job("j", &cron);
        assert_eq!(
            job["metadata"]["annotations"],
            json!({"cronjob.kubernetes.io/instantiate": "manual", "a": "b"})
        );
        assert_eq!(job["metadata"]["labels"], json!({"l": "1"}));
        assert_eq!(job["metadata"]["ownerReferences"][0]["controller"], json!(true));
        assert_eq!(job["spec"], json!({"backoffLimit": 1}));
    }

    #[test]
    fn flags_of_jobs() {
        let flags = |image: &str, from: &str, command: &[&str]| {
            let command = command.iter().map(|s| (*s).to_string()).collect();
            Job { image: image.into(), from: from.into(), command }.check().is_ok()
        };
        assert!(flags("i", "", &[]) && flags("i", "", &["x"]) && flags("", "cronjob/c", &[]));
        assert!(!flags("", "", &[]) && !flags("i", "cronjob/c", &[]) && !flags("", "cronjob/c", &["x"]));
    }
}
