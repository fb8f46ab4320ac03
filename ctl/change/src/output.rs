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
    /// Whether each object is printed as if it were the first, as some verbs do.
    apart: bool,
    /// JSON in the order of the Go structs.
    struct_order: bool,
    json: bool,
}

impl Printer {
    /// Reads the flags.
    ///
    /// # Errors
    /// Unknown formats and bad templates.
    pub fn new(flags: &PrintArgs, dry: DryRun) -> Result<Self> {
        Ok(Self {
            objects: flags.printer(OBJECT_FORMATS)?.map(RefCell::new),
            dry,
            apart: false,
            struct_order: false,
            json: flags.output.as_deref() == Some("json") && !flags.show_managed_fields,
        })
    }

    /// Prints each object as if it were the first one.
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Whether objects or names are printed instead of what was done.
    pub fn prints_objects(&self) -> bool {
        self.objects.is_some()
    }

    /// Prints the object, its name, or the line about what was done to it.
    pub fn done(&self, object: &Value, what: &str) -> Result<()> {
        match &self.objects {
            Some(_) if self.struct_order && self.json => out::put(&crate::typed::pretty(&shown(object))),
            Some(printer) if self.apart => printer.borrow().clone().print(object, None)?,
            Some(printer) => printer.borrow_mut().print(object, None)?,
            None => out::line(&format!("{} {what}{}", named(object), self.suffix())),
        }
        Ok(())
    }

    /// Prints JSON in the order of the Go structs, as verbs do that work on typed objects.
    pub fn typed(mut self) -> Self {
        self.struct_order = true;
        self
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

fn shown(object: &Value) -> Value {
    let mut out = object.clone();
    coxctl_kit::print::hide_managed_fields(&mut out);
    out
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
