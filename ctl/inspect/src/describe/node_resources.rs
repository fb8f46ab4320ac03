//! What the pods of a node ask for and may use, against what the node has.

use super::page::Page;
use super::pod_resources::{Amounts, add, limits, requests};
use super::subject::Subject;
use crate::dig;
use crate::put;
use machinery::quantity::{Format, Quantity};
use serde_json::Value;

/// The table of pods and the table of sums.
pub fn tables(subject: &Subject, page: &mut Page) {
    let status = &subject.object["status"];
    let held = if dig::entries(status, "allocatable").is_empty() { "capacity" } else { "allocatable" };
    let held: Amounts = dig::entries(status, held)
        .into_iter()
        .map(|(name, value)| (name.into(), dig::quantity(value)))
        .collect();
    put!(page, 0, "Non-terminated Pods:\t({} in total)\n", subject.pods.len());
    page.put(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge\n");
    page.put(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---\n");
    for pod in &subject.pods {
        pod_row(pod, &held, subject, page);
    }
    sums(&subject.pods, &held, page);
}

fn pod_row(pod: &Value, held: &Amounts, subject: &Subject, page: &mut Page) {
    let (asked, most) = (requests(pod, true), limits(pod, true));
    let cells: Vec<_> = [(&asked, "cpu"), (&most, "cpu"), (&asked, "memory"), (&most, "memory")]
        .into_iter()
        .map(|(amounts, name)| share(&amount(amounts, name), &amount(held, name), name, true))
        .collect();
    let age = dig::since(pod, "metadata.creationTimestamp", subject.now);
    let (namespace, name) = (dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
    put!(page, 1, "{namespace}\t{name}\t\t{}\t{age}\n", cells.join("\t"));
}

fn amount(amounts: &Amounts, name: &str) -> Quantity {
    amounts.get(name).cloned().unwrap_or_else(|| Quantity::zero(Format::DecimalSi))
}

/// An amount and how much of the whole that is. Without a whole it is nothing or, as a float divided by nothing turned
/// into an integer comes out, the smallest number.
fn share(amount: &Quantity, whole: &Quantity, name: &str, divided_by_nothing: bool) -> String {
    let units = |quantity: &Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
    let percent = match units(whole) {
        0 if divided_by_nothing => i64::MIN,
        0 => 0,
        whole => (units(amount) as f64 / whole as f64 * 100.0) as i64,
    };
    format!("{amount} ({percent}%)")
}

fn sums(pods: &[Value], held: &Amounts, page: &mut Page) {
    let (mut asked, mut most) = (Amounts::new(), Amounts::new());
    for pod in pods {
        add(&mut asked, &requests(pod, false));
        add(&mut most, &limits(pod, false));
    }
    page.put(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)\n");
    page.put(1, "Resource\tRequests\tLimits\n");
    page.put(1, "--------\t--------\t------\n");
    let named = ["cpu", "memory", "ephemeral-storage"];
    let huge = held.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-"));
    for name in named.into_iter().chain(huge) {
        let cell = |amounts| share(&amount(amounts, name), &amount(held, name), name, false);
        put!(page, 1, "{name}\t{}\t{}\n", cell(&asked), cell(&most));
    }
    let others = held
        .keys()
        .filter(|name| !named.contains(&name.as_str()) && *name != "pods" && !name.starts_with("hugepages-"));
    for name in others {
        put!(page, 1, "{name}\t{}\t{}\n", amount(&asked, name), amount(&most, name));
    }
}
