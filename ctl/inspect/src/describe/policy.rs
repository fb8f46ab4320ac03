//! Disruption budgets, priority classes, service address ranges and service addresses.

use super::namespace;
use super::page::Page;
use super::subject::Subject;
use crate::dig;

/// Writes a pod disruption budget.
pub fn budget(subject: &Subject, page: &mut Page) {
    let budget = &subject.object;
    page.name(budget);
    page.namespace(budget);
    if dig::has(budget, "spec.minAvailable") {
        page.field(0, "Min available", dig::int_or_string(&budget["spec"]["minAvailable"]));
    } else if dig::has(budget, "spec.maxUnavailable") {
        page.field(0, "Max unavailable", dig::int_or_string(&budget["spec"]["maxUnavailable"]));
    }
    match &budget["spec"]["selector"] {
        selector if selector.is_null() => page.field(0, "Selector", "<unset>"),
        selector => page.field(0, "Selector", dig::selector_or_none(selector)),
    }
    page.put(0, "Status:\n");
    for (title, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        page.field(2, title, dig::int(&budget["status"], field));
    }
    subject.events(page);
}

/// Writes a priority class.
pub fn priority(subject: &Subject, page: &mut Page) {
    let class = &subject.object;
    page.name(class);
    page.field(0, "Value", dig::int(class, "value"));
    page.field(0, "GlobalDefault", dig::flag(class, "globalDefault"));
    page.field(0, "PreemptionPolicy", dig::text(class, "preemptionPolicy"));
    page.field(0, "Description", dig::text(class, "description"));
    page.field(0, "Annotations", dig::one_line(&dig::strings(class, "metadata.annotations")));
    subject.events(page);
}

/// Writes a range of service addresses.
pub fn service_cidr(subject: &Subject, page: &mut Page) {
    let range = &subject.object;
    page.name(range);
    page.labels_and_annotations(range);
    page.field(0, "CIDRs", dig::texts(range, "spec.cidrs").join(", "));
    let conditions = dig::items(range, "status.conditions");
    if !conditions.is_empty() {
        page.put(0, "Status:\n");
        namespace::conditions(conditions, page);
    }
    subject.events(page);
}

/// Writes an address of a service.
pub fn ip_address(subject: &Subject, page: &mut Page) {
    let address = &subject.object;
    page.name(address);
    page.labels_and_annotations(address);
    let parent = &address["spec"]["parentRef"];
    if !parent.is_null() {
        page.put(0, "Parent Reference:\n");
        for (title, field) in
            [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")]
        {
            page.field(1, title, dig::text(parent, field));
        }
    }
    subject.events(page);
}
