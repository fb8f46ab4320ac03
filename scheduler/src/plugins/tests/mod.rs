//! What plugins say of small clusters, as tables, and a comparison of the running counts with counting by walking.

mod affinity;
mod nodes;
mod recount;
mod spread;
mod volumes;

use crate::framework::quick::Answer;
use crate::framework::{Before, Plugin, Quick, Verdict, View};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// What a plugin says of each node, by the nodes' order: `ok`, `no: reasons`, `never: reasons`, or of the pod as a whole.
pub fn verdicts(plugin: &dyn Plugin, pod: &PodInfo, all: &mut Snapshot) -> Vec<String> {
    all.refresh();
    plugin.count(pod, all);
    let all = &*all;
    let prepared = match plugin.pre_filter(pod, all) {
        Before::Skip => return all.order().iter().map(|_| "ok".into()).collect(),
        Before::Refuse(why) => return vec![format!("refused: {why}")],
        Before::Ask(prepared) | Before::Only(_, prepared) => prepared,
    };
    let quick = plugin.quick(&prepared, pod, all);
    let one = |slot: &u32| {
        let word = words(plugin.filter(&prepared, pod, &View::of(*slot, all)));
        quick.iter().for_each(|q| agree(q, *slot, &word));
        // What the filter has found out may be known now.
        plugin.quick(&prepared, pod, all).iter().for_each(|q| agree(q, *slot, &word));
        word
    };
    all.order().iter().map(one).collect()
}

/// What is said in short must be what is said in full.
fn agree(quick: &Quick<'_>, slot: u32, word: &str) {
    let short = match quick.ask(slot) {
        Answer::Unknown => return,
        Answer::Fits => "ok".into(),
        Answer::No(number) => {
            let sort = if quick.never(number) { "never" } else { "no" };
            format!("{sort}: {}", quick.reasons(number).join(", "))
        }
    };
    assert_eq!(short, word, "slot {slot}");
}

fn words(verdict: Verdict) -> String {
    let (sort, why) = match verdict {
        Verdict::Fits => return "ok".into(),
        Verdict::Refused(why) => ("no", why),
        Verdict::Never(why) => ("never", why),
    };
    let why: Vec<&str> = why.iter().map(|r| r.as_str()).collect();
    format!("{sort}: {}", why.join(", "))
}

/// The scores of all nodes, or `None` if the plugin has none to give.
pub fn scores(plugin: &dyn Plugin, pod: &PodInfo, all: &mut Snapshot) -> Option<Vec<i64>> {
    all.refresh();
    plugin.count(pod, all);
    let all = &*all;
    let prepared = plugin.pre_score(pod, all, all.order())?;
    let mut scores = vec![0; all.order().len()];
    plugin.score(&prepared, pod, all, all.order(), &mut scores);
    Some(scores)
}
