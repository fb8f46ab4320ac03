//! `leaderElection` of the file.

use std::time::Duration;

use serde_json::json;

use super::fault::Reader;
use crate::config::Flags;

/// How to stand for election, as far as the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Election {
    pub elect: Option<bool>,
    pub lease: Option<Duration>,
    pub renew: Option<Duration>,
    pub retry: Option<Duration>,
    pub name: Option<String>,
    pub namespace: Option<String>,
}

impl Election {
    /// Reads and checks the section.
    pub fn read(r: &mut Reader<'_>) -> Self {
        let Some(mut r) = r.child("leaderElection") else { return Self::default() };
        r.known(&[
            "leaderElect",
            "leaseDuration",
            "renewDeadline",
            "retryPeriod",
            "resourceLock",
            "resourceName",
            "resourceNamespace",
        ]);
        let read = Self {
            elect: r.bool("leaderElect"),
            lease: duration(&mut r, "leaseDuration"),
            renew: duration(&mut r, "renewDeadline"),
            retry: duration(&mut r, "retryPeriod"),
            name: text(&mut r, "resourceName"),
            namespace: text(&mut r, "resourceNamespace"),
        };
        if read.elect != Some(false) {
            read.check(&mut r);
        }
        read
    }

    fn check(&self, r: &mut Reader<'_>) {
        let lease = self.lease.unwrap_or(Duration::from_secs(15));
        let renew = self.renew.unwrap_or(Duration::from_secs(10));
        let retry = self.retry.unwrap_or(Duration::from_secs(2));
        for (field, value) in [("leaseDuration", lease), ("renewDeadline", renew), ("retryPeriod", retry)] {
            if value.is_zero() {
                r.invalid(field, &json!("0s"), "must be greater than zero");
            }
        }
        if lease < renew {
            let value = r.get("renewDeadline");
            r.invalid("leaseDuration", &value, "LeaseDuration must be greater than RenewDeadline");
        }
        if renew < retry {
            let value = r.get("retryPeriod");
            r.invalid("renewDeadline", &value, "RenewDeadline must be greater than RetryPeriod");
        }
        if let Some(lock) = r.text("resourceLock").filter(|l| !matches!(l.as_str(), "" | "leases")) {
            r.invalid("resourceLock", &json!(lock), "resourceLock value must be \"leases\"");
        }
    }

    /// Takes what the file says into the flags, where those are as they would be if nobody had set them: a flag
    /// that was given stands above the file.
    pub fn settle(&self, flags: &mut Flags, unset: &Flags) {
        flags.leader_elect = flags.leader_elect && self.elect.unwrap_or(true);
        fill(&mut flags.leader_elect_lease_duration, &unset.leader_elect_lease_duration, &self.lease);
        fill(&mut flags.leader_elect_renew_deadline, &unset.leader_elect_renew_deadline, &self.renew);
        fill(&mut flags.leader_elect_retry_period, &unset.leader_elect_retry_period, &self.retry);
        fill(&mut flags.leader_elect_resource_name, &unset.leader_elect_resource_name, &self.name);
        fill(
            &mut flags.leader_elect_resource_namespace,
            &unset.leader_elect_resource_namespace,
            &self.namespace,
        );
    }
}

fn fill<T: Clone + PartialEq>(flag: &mut T, unset: &T, file: &Option<T>) {
    if let Some(value) = file
        && flag == unset
    {
        *flag = value.clone();
    }
}

fn text(r: &mut Reader<'_>, field: &str) -> Option<String> {
    r.text(field).filter(|s| !s.is_empty())
}

fn duration(r: &mut Reader<'_>, field: &str) -> Option<Duration> {
    let text = r.text(field)?;
    match daemon::flags::duration(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            r.invalid(field, &json!(text), &error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::configuration::Configuration;

    const HEAD: &str = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, ";

    fn flags(args: &[&str]) -> Flags {
        Flags::try_parse_from(std::iter::once(&"kube-scheduler").chain(args)).unwrap()
    }

    #[test]
    fn a_flag_stands_above_the_file_and_the_file_above_the_default() {
        let text = "leaderElection: {leaseDuration: 20s, resourceName: mine, resourceNamespace: own}}";
        let election = Configuration::parse(&format!("{HEAD}{text}")).unwrap().election;
        let mut set = flags(&["--leader-elect-resource-name=flag"]);
        election.settle(&mut set, &flags(&[]));
        assert!(set.leader_elect);
        assert_eq!(set.leader_elect_lease_duration, Duration::from_secs(20));
        assert_eq!(set.leader_elect_renew_deadline, Duration::from_secs(10));
        let lease = (set.leader_elect_resource_namespace, set.leader_elect_resource_name);
        assert_eq!(lease, ("own".into(), "flag".into()));
        let off = Configuration::parse(&format!("{HEAD}leaderElection: {{leaderElect: false}}}}")).unwrap();
        let mut set = flags(&["--leader-elect"]);
        off.election.settle(&mut set, &flags(&[]));
        assert!(!set.leader_elect);
    }

    #[test]
    fn faults_are_told() {
        let text = "leaderElection: {leaseDuration: 5s, renewDeadline: 10s, retryPeriod: 0s, resourceLock: endpoints}}";
        let error = Configuration::parse(&format!("{HEAD}{text}")).err().unwrap().to_string();
        let want = [
            "[leaderElection.retryPeriod: Invalid value: \"0s\": must be greater than zero",
            "leaderElection.leaseDuration: Invalid value: \"10s\": LeaseDuration must be greater than RenewDeadline",
            "leaderElection.resourceLock: Invalid value: \"endpoints\": resourceLock value must be \"leases\"]",
        ];
        assert_eq!(error, want.join(", "));
    }
}
