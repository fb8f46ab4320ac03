//! One step of a rolling update: which old pods go, and which nodes get a new pod beside the old one. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::plan::{Look, Place, Plan, alive};
use crate::kit::meta::name;

/// Adds a step to a plan that has nothing else to do.
pub fn roll(look: &Look<'_>, plan: &mut Plan) {
    if look.max_surge == 0 { replace(look, plan) } else { surge(look, plan) }
}

/// The living new and old pod of a node; nothing if there are several of a kind.
fn pair<'a>(look: &Look<'_>, place: &Place<'a>) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
    let (mut new, mut old) = (None, None);
    for pod in place.pods.iter().copied().filter(|p| alive(p)) {
        let slot = if look.is_new(pod) { &mut new } else { &mut old };
        if slot.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// The nodes that count for an update: those that should have a pod, and those that have one.
fn places<'l, 'a>(look: &'l Look<'a>) -> impl Iterator<Item = (&'a str, &'l Place<'a>)> {
    look.places.iter().filter(|(_, p)| p.fit.run || !p.pods.is_empty()).map(|(node, place)| (*node, place))
}

/// Old pods go, and the next look makes new ones: those that are not available anyhow, and of the others as many as
/// may be unavailable.
fn replace(look: &Look<'_>, plan: &mut Plan) {
    let (mut down, mut broken, mut whole) = (0, Vec::new(), Vec::new());
    for (_, place) in places(look) {
        match pair(look, place) {
            None | Some((None, None) | (Some(_), Some(_))) => down += 1,
            Some((Some(new), None)) => down += i32::from(!look.available(new)),
            Some((None, Some(old))) if look.available(old) => whole.push(old),
            Some((None, Some(old))) => {
                broken.push(old);
                down += 1;
            }
        }
    }
    if broken.is_empty() && whole.is_empty() {
        return;
    }
    let room = (look.max_unavailable - down).max(0) as usize;
    plan.why = format!(
        "{} old pods, {down} nodes unavailable of at most {}",
        broken.len() + whole.len(),
        look.max_unavailable
    );
    let gone = broken.into_iter().chain(whole.into_iter().take(room));
    plan.delete.extend(gone.map(|p| name(&p.metadata).to_string()));
}

/// New pods come beside old ones, at once where the old one is not available, else on as many nodes as may surge; the
/// old one goes when the new one is available.
fn surge(look: &Look<'_>, plan: &mut Plan) {
    let (mut surging, mut available) = (0, 0);
    let (mut delete, mut sunset) = (Vec::new(), Vec::new());
    let (mut at_once, mut candidates) = (Vec::new(), Vec::new());
    for (node, place) in places(look) {
        let Some((new, old)) = pair(look, place) else {
            surging += 1;
            continue;
        };
        available += i32::from(old.or(new).is_some_and(|p| look.available(p)));
        let Some(old) = old else { continue };
        match new {
            Some(new) if look.available(new) => delete.push(old),
            Some(_) => surging += 1,
            None => match (look.available(old), place.fit.run) {
                (false, false) => delete.push(old),
                (false, true) => at_once.push(node),
                (true, false) => sunset.push(old),
                (true, true) => candidates.push(node),
            },
        }
    }
    // Where pods should no longer be, they go only as others elsewhere have taken over.
    let spare = (available - look.desired).max(0) as usize;
    delete.extend(sunset.into_iter().take(spare));
    let room = (look.max_surge - surging).max(0) as usize;
    if !(delete.is_empty() && at_once.is_empty() && candidates.is_empty()) {
        plan.why =
            format!("{surging} nodes surging of at most {}, {} to come", look.max_surge, candidates.len());
    }
    plan.create.extend(at_once.into_iter().chain(candidates.into_iter().take(room)).map(str::to_string));
    plan.delete.extend(delete.into_iter().map(|p| name(&p.metadata).to_string()));
}
