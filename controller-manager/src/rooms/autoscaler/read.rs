//! Reads scales and metrics: metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io, behind the same API
//! server.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Selector, Time};
use machinery::quantity::Quantity;
use machinery::selector::LabelSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::metrics::Reading;
use super::plan::Target;
use super::replicas::{Sample, Samples};
use crate::kit::Kind;
use crate::kit::served::Served;

const DEADLINE: Duration = Duration::from_secs(10);
/// The window of a custom metric that does not name one.
const WINDOW: i64 = 60;
const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";

/// A reader with the controller's identity.
pub struct Reader {
    client: kube::Client,
    served: Served,
}

/// A scale as it was read, to be written back.
pub struct Scale {
    pub path: String,
    pub body: Value,
}

impl Scale {
    /// The version of the object it was read at.
    pub fn version(&self) -> Option<&str> {
        self.body.pointer("/metadata/resourceVersion").and_then(Value::as_str)
    }

    /// What the plan looks at.
    pub fn target(&self) -> Target {
        let number = |path: &str| {
            self.body.pointer(path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
        };
        let selector = self.body.pointer("/status/selector").and_then(Value::as_str).unwrap_or_default();
        Target {
            spec: number("/spec/replicas"),
            status: number("/status/replicas"),
            selector: selector.into(),
        }
    }
}

impl Reader {
    /// Reads as `client`; discovery as the manager itself.
    pub fn new(client: kube::Client, root: kube::Client) -> Self {
        Self { client, served: Served::new(root) }
    }

    /// The scale of a target, whatever kind it is of.
    pub async fn scale(&self, ns: &str, target: &CrossVersionObjectReference) -> Result<Scale, String> {
        let version = target.api_version.as_deref().unwrap_or_default();
        if version.matches('/').count() > 1 {
            return Err(format!(
                "invalid API version in scale target reference: unexpected GroupVersion string: {version}"
            ));
        }
        let kind = self.served.find(version, &target.kind).await;
        let kind =
            kind.map_err(|e| format!("unable to determine resource for scale target reference: {e:#}"))?;
        let path = format!("{}/scale", kind.path(ns, &target.name));
        let what = format!("{} {}", resource(&kind), target.name);
        let body = self.get(&path, &what).await?;
        Ok(Scale { path, body })
    }

    /// Sets the number of a scale that is still as it was read.
    pub async fn rescale(&self, scale: &Scale, replicas: i32) -> Result<(), String> {
        let mut body = scale.body.clone();
        body["spec"]["replicas"] = replicas.into();
        let request = http::Request::put(&scale.path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body).unwrap_or_default());
        let request = request.map_err(|e| e.to_string())?;
        self.send::<Value>(request, "update scale").await.map(drop)
    }

    /// What a metric reads now.
    pub async fn metric(&self, ns: &str, spec: &MetricSpec, pods: &LabelSelector) -> Result<Reading, String> {
        if let Some(source) = &spec.resource {
            return self.resource(ns, &source.name, None, pods).await.map(Reading::Pods);
        }
        if let Some(source) = &spec.container_resource {
            return self.resource(ns, &source.name, Some(&source.container), pods).await.map(Reading::Pods);
        }
        if let Some(source) = &spec.pods {
            return self.of_pods(ns, &source.metric, pods).await.map(Reading::Pods);
        }
        if let Some(source) = &spec.object {
            return self.of_object(ns, &source.described_object, &source.metric).await.map(Reading::One);
        }
        match &spec.external {
            Some(source) => self.external(ns, &source.metric).await.map(Reading::Many),
            None => Err("no metric source".into()),
        }
    }

    async fn resource(
        &self,
        ns: &str,
        resource: &str,
        container: Option<&str>,
        pods: &LabelSelector,
    ) -> Result<Samples, String> {
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{ns}/pods?labelSelector={}",
            encode(&pods.to_string())
        );
        let list: List<PodMetrics> = self
            .get(&path, "pods.metrics.k8s.io")
            .await
            .map_err(|e| format!("unable to fetch metrics from resource metrics API: {e}"))?;
        resource_samples(list.items, ns, resource, container)
    }

    async fn of_pods(
        &self,
        ns: &str,
        metric: &MetricIdentifier,
        pods: &LabelSelector,
    ) -> Result<Samples, String> {
        let read = async {
            let path = format!(
                "{}/namespaces/{ns}/pods/*/{}?labelSelector={}{}",
                self.custom().await?,
                encode(&metric.name),
                encode(&pods.to_string()),
                metric_selector(metric.selector.as_ref(), "&")?,
            );
            self.get::<List<CustomValue>>(&path, &format!("pods.{CUSTOM} *")).await
        };
        let list = read.await.map_err(unread_custom)?;
        if list.items.is_empty() {
            return Err("no metrics returned from custom metrics API".into());
        }
        Ok(list.items.into_iter().map(CustomValue::sample).collect())
    }

    async fn of_object(
        &self,
        ns: &str,
        object: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
    ) -> Result<i64, String> {
        let read = async {
            let root = self.custom().await?;
            let version = object.api_version.as_deref().unwrap_or_default();
            let selector = metric_selector(metric.selector.as_ref(), "?")?;
            let name = encode(&metric.name);
            let group = version.split_once('/').map_or("", |(g, _)| g);
            let path = if object.kind == "Namespace" && group.is_empty() {
                format!("{root}/namespaces/{ns}/metrics/{name}{selector}")
            } else {
                let kind = self.served.find(version, &object.kind).await.map_err(|e| format!("{e:#}"))?;
                format!(
                    "{root}/namespaces/{ns}/{}/{}/{name}{selector}",
                    resource(&kind),
                    encode(&object.name)
                )
            };
            let what = format!("{}.{CUSTOM} {}", object.kind.to_lowercase(), object.name);
            let list: List<CustomValue> = self.get(&path, &what).await?;
            list.items.into_iter().next().ok_or_else(|| {
                format!("the custom metrics API server returned no results for {}", object.name)
            })
        };
        read.await.map(|value| value.sample().1.value).map_err(unread_custom)
    }

    async fn external(&self, ns: &str, metric: &MetricIdentifier) -> Result<Vec<i64>, String> {
        let selector = metric.selector.as_ref().map(text_of).transpose()?.unwrap_or_default();
        let query =
            if selector.is_empty() { String::new() } else { format!("?labelSelector={}", encode(&selector)) };
        let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{ns}/{}{query}", encode(&metric.name));
        let list: List<ExternalValue> = self
            .get(&path, &format!("{}.{EXTERNAL}", metric.name))
            .await
            .map_err(|e| format!("unable to fetch metrics from external metrics API: {e}"))?;
        if list.items.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(list.items.iter().map(|v| milli(&v.value)).collect())
    }

    /// The root of the custom metrics API, in the newest version that is served.
    async fn custom(&self) -> Result<String, String> {
        let versions = self.served.versions(CUSTOM).await.map_err(|e| format!("{e:#}"))?;
        let known = ["v1beta2", "v1beta1"].into_iter().find(|k| versions.iter().any(|v| v == k));
        match known {
            Some(version) => Ok(format!("/apis/{CUSTOM}/{version}")),
            None => Err(format!("no custom metrics API ({CUSTOM}) registered")),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, String> {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|e| e.to_string())?;
        self.send(request, &format!("get {what}")).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: http::Request<Vec<u8>>,
        what: &str,
    ) -> Result<T, String> {
        match tokio::time::timeout(DEADLINE, self.client.request::<T>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => {
                let told = status.reason != "Failed to parse error data";
                Err(refusal(status.code, status.message.as_str(), told, what))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                Err(format!("the server was unable to return a response in the time allotted ({what})"))
            }
        }
    }
}

/// A refusal as client-go words it: what the server `told`, unless that says no more than its code.
fn refusal(code: u16, message: &str, told: bool, what: &str) -> String {
    const NOT_FOUND: &str = "the server could not find the requested resource";
    match code {
        404 if !told || message.is_empty() || message == NOT_FOUND => format!("{NOT_FOUND} ({what})"),
        503 => format!("the server is currently unable to handle the request ({what})"),
        _ => message.to_string(),
    }
}

fn unread_custom(error: String) -> String {
    format!("unable to fetch metrics from custom metrics API: {error}")
}

/// `resource.group`, the resource alone in the core group.
fn resource(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.plural.to_string() } else { format!("{}.{}", kind.plural, kind.group) }
}

/// A metric's selector as a query parameter after `before`; nothing where it selects all.
fn metric_selector(selector: Option<&Selector>, before: &str) -> Result<String, String> {
    let text = selector.map(text_of).transpose()?.unwrap_or_default();
    Ok(if text.is_empty() { text } else { format!("{before}metricLabelSelector={}", encode(&text)) })
}

fn text_of(selector: &Selector) -> Result<String, String> {
    let value = serde_json::to_value(selector).map_err(|e| e.to_string())?;
    LabelSelector::from_json(&value).map(|s| s.to_string())
}

/// Percent-encodes what may not stand in a path segment or in a query's value.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn milli(amount: &Amount) -> i64 {
    Quantity::parse(&amount.0).map_or(0, |q| q.milli_value())
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Time,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Amount>,
}

/// The samples of a resource. A pod one of whose containers lacks it has none.
fn resource_samples(
    items: Vec<PodMetrics>,
    ns: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    if items.is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    let mut samples = Samples::new();
    for pod in items {
        let value = match container {
            None if pod.containers.is_empty() => None,
            None => pod.containers.iter().map(|c| c.usage.get(resource).map(milli)).sum(),
            Some(wanted) => {
                let found = pod.containers.iter().find(|c| c.name == wanted);
                let missing = || {
                    format!("container {wanted} not present in metrics for pod {ns}/{}", pod.metadata.name)
                };
                found.ok_or_else(missing)?.usage.get(resource).map(milli)
            }
        };
        let window = daemon::flags::duration(&pod.window).unwrap_or_default();
        let window = SignedDuration::try_from(window).unwrap_or_default();
        if let Some(value) = value {
            samples.insert(pod.metadata.name, Sample { value, at: pod.timestamp.0, window });
        }
    }
    Ok(samples)
}

/// A custom metric's value, in both versions of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomValue {
    described_object: Named,
    #[serde(default)]
    timestamp: Option<Time>,
    #[serde(default, alias = "window")]
    window_seconds: Option<i64>,
    value: Amount,
}

impl CustomValue {
    fn sample(self) -> (String, Sample) {
        let sample = Sample {
            value: milli(&self.value),
            at: self.timestamp.map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            window: SignedDuration::from_secs(self.window_seconds.unwrap_or(WINDOW)),
        };
        (self.described_object.name, sample)
    }
}

#[derive(Deserialize)]
struct ExternalValue {
    value: Amount,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::time;

    fn list<T: DeserializeOwned>(text: &str) -> Vec<T> {
        serde_yaml::from_str::<List<T>>(text).expect("a list").items
    }

    const PODS: &str = "
items:
- metadata: {name: a}
  timestamp: '2026-01-01T09:59:50Z'
  window: 15.5s
  containers: [{name: app, usage: {cpu: 250m, memory: 10Mi}}, {name: side, usage: {cpu: 1500000n}}]
- metadata: {name: b}
  timestamp: '2026-01-01T09:59:50Z'
  window: 1m0s
  containers: [{name: app, usage: {memory: 10Mi}}, {name: side, usage: {cpu: 1m}}]
- metadata: {name: c}
  timestamp: '2026-01-01T09:59:50Z'
  window: 1m0s
  containers: []
";

    #[test]
    fn resources_of_pods() {
        let samples = resource_samples(list(PODS), "ns", "cpu", None).unwrap();
        let a = Sample {
            value: 252,
            at: time("2026-01-01T09:59:50Z").0,
            window: SignedDuration::from_millis(15_500),
        };
        assert_eq!(samples, [("a".to_string(), a)].into());
        let none = resource_samples(list("items: []"), "ns", "cpu", None);
        assert_eq!(none, Err("no metrics returned from resource metrics API".into()));
    }

    #[test]
    fn resources_of_one_container() {
        let mut pods: Vec<PodMetrics> = list(PODS);
        let without = resource_samples(list(PODS), "ns", "cpu", Some("app"));
        assert_eq!(without, Err("container app not present in metrics for pod ns/c".into()));
        pods.pop();
        let samples = resource_samples(pods, "ns", "cpu", Some("app")).unwrap();
        assert_eq!(samples.iter().map(|(n, s)| (n.as_str(), s.value)).collect::<Vec<_>>(), [("a", 250)]);
    }

    #[test]
    fn custom_values_of_both_versions() {
        let text = "
items:
- {describedObject: {kind: Pod, name: a}, metricName: qps, timestamp: '2026-01-01T09:59:50Z', window: 30, value: 1500m}
- {describedObject: {kind: Pod, name: b}, metric: {name: qps}, timestamp: '2026-01-01T09:59:50Z', windowSeconds: 20, value: '2'}
- {describedObject: {kind: Pod, name: c}, metric: {name: qps}, timestamp: null, value: 2k}
";
        let read: Vec<_> = list::<CustomValue>(text)
            .into_iter()
            .map(CustomValue::sample)
            .map(|(n, s)| (n, s.value, s.window.as_secs()))
            .collect();
        let want = [("a", 1500, 30), ("b", 2000, 20), ("c", 2_000_000, 60)];
        assert_eq!(read, want.map(|(n, v, w)| (n.to_string(), v, w)));
    }

    #[test]
    fn selectors_are_encoded() {
        let pods = LabelSelector::parse("app in (a,b),!c").unwrap();
        assert_eq!(encode(&pods.to_string()), "app%20in%20%28a%2Cb%29%2C%21c");
        let metric: Selector = serde_yaml::from_str("{matchLabels: {queue: worker}}").unwrap();
        assert_eq!(metric_selector(Some(&metric), "&").unwrap(), "&metricLabelSelector=queue%3Dworker");
        assert_eq!(metric_selector(None, "?").unwrap(), "");
    }
}
