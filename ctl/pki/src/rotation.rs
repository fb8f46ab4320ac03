//! When which certificate is renewed, and what is said on the way: the thinking half of `certs watch`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use crate::expiry::{Dirs, Expiry, KNOWN, Known};
use crate::fitness::date;
use crate::x509;

/// Longest rest: the clock may be set meanwhile.
const LONGEST_REST: i64 = 3600;
/// First and longest wait after a failure, seconds.
const FIRST_RETRY: i64 = 10;
const LONGEST_RETRY: i64 = 600;

/// Which certificates are in trouble, since how many tries, and until when they are left alone.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Makes machines of one age renew at different times.
    seed: u64,
    troubles: BTreeMap<String, Trouble>,
    /// When a standing warning was last given.
    said: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Trouble {
    tries: u32,
    retry_at: i64,
    what: String,
}

/// What a look at all certificates led to.
#[derive(Debug, Default, PartialEq)]
pub struct Turn {
    /// Names of what was renewed.
    pub renewed: Vec<String>,
    /// Name and cause of what failed now.
    pub failed: Vec<(String, String)>,
    /// Standing conditions worth a warning now.
    pub warnings: Vec<String>,
    /// When to look again, seconds since 1970.
    pub next: i64,
    /// All that was looked at, for the status file.
    pub certificates: Vec<Value>,
}

/// When a leaf is renewed: when two thirds of its life are over, or up to a thirtieth of it sooner.
pub fn due(e: &Expiry, seed: u64) -> i64 {
    let made = x509::made(e.not_before, e.not_after);
    let life = e.not_after - made;
    let mut hasher = DefaultHasher::new();
    (seed, &e.name, e.not_after).hash(&mut hasher);
    let sooner = (hasher.finish() % 1000) as i64;
    made + life / 3 * 2 - life * sooner / 30_000
}

impl Rotation {
    /// A rotation whose moments are its own.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Looks at every certificate and renews what is due.
    pub fn turn(&mut self, dirs: &Dirs, now: i64) -> Turn {
        let mut turn = Turn { next: now + LONGEST_REST, ..Turn::default() };
        for known in &KNOWN {
            match known.expiry(dirs) {
                Ok(e) if e.missing => drop(self.troubles.remove(known.name)),
                Ok(e) if e.is_ca => self.look_at_authority(&e, now, &mut turn),
                Ok(e) => self.look_at_leaf(known, &e, dirs, now, &mut turn),
                Err(error) if self.may_try(known.name, now) => {
                    self.fail(known.name, format!("{error:#}"), LONGEST_RETRY * 30, now, &mut turn);
                }
                Err(_) => {}
            }
            if let Some(trouble) = self.troubles.get(known.name) {
                turn.next = turn.next.min(trouble.retry_at);
            }
        }
        turn
    }

    fn may_try(&self, name: &str, now: i64) -> bool {
        self.troubles.get(name).is_none_or(|t| t.retry_at <= now)
    }

    fn look_at_leaf(&mut self, known: &Known, e: &Expiry, dirs: &Dirs, now: i64, turn: &mut Turn) {
        let mut at = due(e, self.seed);
        let mut seen = e.clone();
        if at <= now && e.externally_managed {
            self.warn_external(e, now, turn);
        } else if at <= now && self.may_try(known.name, now) {
            match known.renew(dirs, None).and_then(|done| Ok((done, known.expiry(dirs)?))) {
                Ok((true, after)) => {
                    self.troubles.remove(known.name);
                    turn.renewed.push(format!("{} (until {})", known.name, time(after.not_after)));
                    (at, seen) = (due(&after, self.seed), after);
                }
                Ok((false, _)) => self.warn_external(e, now, turn),
                Err(error) => {
                    let life = e.not_after - x509::made(e.not_before, e.not_after);
                    self.fail(known.name, format!("{error:#}"), life, now, turn);
                }
            }
        }
        if at > now {
            self.troubles.remove(known.name);
            turn.next = turn.next.min(at);
        }
        turn.certificates.push(self.status(&seen, at));
    }

    /// A failure is tried again soon, then ever later, but not so late that a short life ends meanwhile.
    fn fail(&mut self, name: &str, what: String, life: i64, now: i64, turn: &mut Turn) {
        let tries = self.troubles.get(name).map_or(0, |t| t.tries);
        let wait = FIRST_RETRY.saturating_mul(1 << tries.min(10)).min(LONGEST_RETRY).min((life / 30).max(1));
        // A fifth more or less, so that many do not come back together.
        let spread = (self.seed.wrapping_add(u64::from(tries)) % 400) as i64 - 200;
        let retry_at = now + (wait + wait * spread / 1000).max(1);
        turn.failed.push((name.into(), what.clone()));
        self.troubles.insert(name.into(), Trouble { tries: tries + 1, retry_at, what });
    }

    fn warn_external(&mut self, e: &Expiry, now: i64, turn: &mut Turn) {
        self.troubles.remove(&e.name);
        let text = format!(
            "{} is due for renewal (it ends {}), but the key of its authority {} is not here: have it signed where that key is",
            e.name,
            date(e.not_after),
            e.authority
        );
        self.warn(&e.name, text, e, now, turn);
    }

    fn look_at_authority(&mut self, e: &Expiry, now: i64, turn: &mut Turn) {
        self.troubles.remove(&e.name);
        let life = e.not_after - x509::made(e.not_before, e.not_after);
        let left = e.not_after - now;
        if left < life / 5 {
            let text = match left > 0 {
                true => format!(
                    "the authority {} ends {}; authorities are not renewed by themselves",
                    e.name,
                    date(e.not_after)
                ),
                false => format!(
                    "the authority {} has run out (on {}): nothing it signed is trusted any more",
                    e.name,
                    date(e.not_after)
                ),
            };
            self.warn(&e.name, text, e, now, turn);
        } else {
            turn.next = turn.next.min(e.not_after - life / 5);
        }
        turn.certificates.push(self.status(e, e.not_after));
    }

    /// Says what stands once a day, more often in short lives.
    fn warn(&mut self, name: &str, text: String, e: &Expiry, now: i64, turn: &mut Turn) {
        let life = e.not_after - x509::made(e.not_before, e.not_after);
        let pause = (life / 20).clamp(10, 86_400);
        let last = self.said.get(name).copied();
        if last.is_none_or(|at| at + pause <= now) {
            self.said.insert(name.into(), now);
            turn.warnings.push(text);
        }
        turn.next = turn.next.min(self.said.get(name).copied().unwrap_or(now) + pause);
    }

    fn status(&self, e: &Expiry, due: i64) -> Value {
        let mut out = json!({"name": e.name, "notAfter": time(e.not_after), "due": time(due)});
        if let Some(trouble) = self.troubles.get(&e.name) {
            out["trouble"] = json!(trouble.what);
        }
        out
    }
}

/// A time to the second, RFC 3339.
pub fn time(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::tests::control_plane;
    use std::fs;

    fn leaf(life: i64) -> Expiry {
        Expiry {
            name: "apiserver".into(),
            authority: "ca".into(),
            is_ca: false,
            missing: false,
            not_before: 1000 - 300,
            not_after: 1000 + life,
            externally_managed: false,
        }
    }

    #[test]
    fn leaves_are_due_when_two_thirds_are_over_or_little_sooner() {
        for (life, earliest, latest) in [(180, 1114, 1120), (8760 * 3600, 19_973_800, 21_025_000)] {
            let all: Vec<i64> = (0..50).map(|seed| due(&leaf(life), seed)).collect();
            assert!(all.iter().all(|d| (earliest..=latest).contains(d)), "{all:?}");
            assert!(all.iter().any(|d| *d != all[0]), "machines differ");
        }
        assert_eq!(due(&leaf(180), 7), due(&leaf(180), 7), "one machine keeps to its moment");
    }

    #[test]
    fn nothing_is_renewed_before_its_time_and_all_after() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 180);
        let (mut rotation, now) = (Rotation::new(1), x509::now());
        let turn = rotation.turn(&dirs, now);
        assert_eq!((turn.renewed.len(), turn.failed.len(), turn.warnings.len()), (0, 0, 0));
        assert!((now + 100..now + 125).contains(&turn.next), "{}", turn.next - now);
        let later = rotation.turn(&dirs, now + 125);
        assert_eq!(later.renewed.len(), 12, "{later:?}");
        assert_eq!(later.certificates.len(), 15);
        // What was renewed is not due again at the real time.
        assert_eq!(rotation.turn(&dirs, x509::now()).renewed, [""; 0]);
    }

    #[test]
    fn a_failure_is_named_and_waits_while_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 180);
        // A directory in the way stands for a disk that takes no file.
        fs::create_dir(dirs.pki.join(".apiserver.crt.next")).unwrap();
        let (mut rotation, now) = (Rotation::new(1), x509::now() + 125);
        let turn = rotation.turn(&dirs, now);
        assert_eq!((turn.renewed.len(), turn.failed.len()), (11, 1));
        assert_eq!(turn.failed[0].0, "apiserver");
        let retry_at = |r: &Rotation| r.troubles["apiserver"].retry_at;
        assert!(
            (now + 1..=now + 12).contains(&retry_at(&rotation)),
            "a life of minutes is tried again in seconds"
        );
        assert!(turn.next <= retry_at(&rotation));
        assert_eq!(rotation.turn(&dirs, now).failed, [], "not at once");
        let again = rotation.turn(&dirs, retry_at(&rotation));
        assert_eq!(again.failed.len(), 1);
        assert!(again.certificates.iter().any(|c| c.get("trouble").is_some()));
        fs::remove_dir(dirs.pki.join(".apiserver.crt.next")).unwrap();
        let healed = rotation.turn(&dirs, retry_at(&rotation));
        assert!(healed.renewed.iter().any(|r| r.starts_with("apiserver (until ")), "{healed:?}");
        assert!(rotation.troubles.is_empty());
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let mut rotation = Rotation::new(200);
        let mut waits = Vec::new();
        for _ in 0..8 {
            rotation.fail("x", "why".into(), 31_536_000, 0, &mut Turn::default());
            waits.push(rotation.troubles["x"].retry_at);
        }
        assert!(waits.windows(2).all(|w| w[0] <= w[1] + 5), "{waits:?}");
        assert!(waits[0] <= 12 && waits[7] <= 720 && waits[7] >= 480, "{waits:?}");
    }

    #[test]
    fn without_the_authoritys_key_it_is_said_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        fs::remove_file(dirs.pki.join("front-proxy-ca.key")).unwrap();
        let (mut rotation, now) = (Rotation::new(1), x509::now() + 2500);
        let turn = rotation.turn(&dirs, now);
        assert_eq!(turn.renewed.len(), 11);
        assert!(turn.warnings[0].contains("front-proxy-client is due") && turn.warnings.len() == 1);
        assert_eq!(rotation.turn(&dirs, now + 1).warnings, [""; 0]);
        assert_eq!(rotation.turn(&dirs, now + 200).warnings.len(), 1);
    }

    #[test]
    fn authorities_are_warned_of_and_never_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        let before = fs::read(dirs.pki.join("ca.crt")).unwrap();
        let ten_years = 87600 * 3600;
        let mut rotation = Rotation::new(1);
        let late = rotation.turn(&dirs, x509::now() + ten_years / 100 * 85);
        assert_eq!(late.warnings.len(), 3);
        assert!(late.warnings[0].contains("the authority ca ends"));
        let over = rotation.turn(&dirs, x509::now() + ten_years + 60);
        assert!(over.warnings[0].contains("has run out"), "{:?}", over.warnings);
        assert_eq!(fs::read(dirs.pki.join("ca.crt")).unwrap(), before);
    }

    #[test]
    fn rubbish_in_one_file_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 180);
        fs::write(dirs.pki.join("apiserver.crt"), "rubbish").unwrap();
        let turn = Rotation::new(1).turn(&dirs, x509::now() + 125);
        assert_eq!((turn.renewed.len(), turn.failed.len()), (11, 1));
        assert!(turn.failed[0].1.contains("no certificate"), "{:?}", turn.failed);
    }

    #[test]
    fn a_mended_authority_is_no_trouble_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        let good = fs::read(dirs.pki.join("ca.crt")).unwrap();
        fs::write(dirs.pki.join("ca.crt"), "rubbish").unwrap();
        let (mut rotation, now) = (Rotation::new(1), x509::now());
        assert_eq!(rotation.turn(&dirs, now).failed.len(), 1);
        fs::write(dirs.pki.join("ca.crt"), good).unwrap();
        let turn = rotation.turn(&dirs, now + 1);
        assert!(rotation.troubles.is_empty() && turn.next > now + 1000, "{turn:?}");
    }
}
