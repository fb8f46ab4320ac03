//! How a verb says what it did: a line, or the object with `-o`.

use crate::flags::DryRun;
use anyhow::Result;
use coxctl_kit::out;
use coxctl_kit::print::output::{OBJECT_FORMATS, own_kind};
use coxctl_kit::print::{PrintArgs, list_of};
use serde_json::Value;
use std::cell::RefCell;

/// Says what was done.
#[derive(Debug)]
pub struct Printer {
    objects: Option<RefCell<coxctl_kit::print::Printer>>,
    dry: DryRun,
}

impl Printer {
    /// Reads the flags.
    ///
    /// # Errors
    /// Unknown formats and bad templates.
    pub fn new(flags: &PrintArgs, dry: DryRun) -> Result<Self> {
        Ok(Self { objects: flags.printer(OBJECT_FORMATS)?.map(RefCell::new), dry })
    }

    /// Whether objects or names are printed instead of what was done.
    pub fn prints_objects(&self) -> bool {
        self.objects.is_some()
    }

    /// Prints the object, its name, or the line about what was done to it.
    pub fn done(&self, object: &Value, what: &str) -> Result<()> {
        match &self.objects {
            Some(printer) => printer.borrow_mut().print(object, None)?,
            None => out::line(&format!("{} {what}{}", named(object), self.suffix())),
        }
        Ok(())
    }

    /// Prints several objects that were collected: as a List when there is more than one.
    pub fn collected(&self, mut objects: Vec<Value>) -> Result<()> {
        let Some(printer) = &self.objects else { return Ok(()) };
        let only = if objects.len() == 1 { objects.pop() } else { None };
        if only.is_none() && objects.is_empty() {
            return Ok(());
        }
        Ok(printer.borrow_mut().print(&only.unwrap_or_else(|| list_of(objects)), None)?)
    }

    /// ` (dry run)`, ` (server dry run)` or nothing.
    pub fn suffix(&self) -> &'static str {
        suffix(self.dry)
    }
}

/// ` (dry run)`, ` (server dry run)` or nothing.
pub fn suffix(dry: DryRun) -> &'static str {
    match dry {
        DryRun::None => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    }
}

/// `deployment.apps/x`: how messages name an object.
pub fn named(object: &Value) -> String {
    format!("{}/{}", own_kind(object), machinery::meta::name(object))
}
