//! A plan is data: what to do, when to look again, and why.

use std::fmt;
use std::time::Duration;

use control::events::Kind as EventKind;
use control::runner::Outcome;
use k8s_openapi::api::core::v1::ObjectReference;

use super::context::Context;
use super::write::Write;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Write(Write),
    /// A write whose target may be gone already, which is as good.
    Vanishing(Write),
    Event {
        object: Box<ObjectReference>,
        kind: EventKind,
        reason: &'static str,
        message: String,
    },
}

/// What a look at the world leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub again: Option<Duration>,
    /// The thought behind it, for logs and tests.
    pub why: String,
}

impl Plan {
    /// Nothing to do, because.
    pub fn nothing(why: impl Into<String>) -> Self {
        Self { why: why.into(), ..Self::default() }
    }

    /// Why, to which steps are added.
    pub fn because(why: impl Into<String>) -> Self {
        Self::nothing(why)
    }

    /// Adds a write.
    pub fn write(&mut self, write: Write) {
        self.steps.push(Step::Write(write));
    }

    /// Adds a write that does not mind its target being gone.
    pub fn vanishing(&mut self, write: Write) {
        self.steps.push(Step::Vanishing(write));
    }

    /// Adds an event.
    pub fn event(
        &mut self,
        object: ObjectReference,
        kind: EventKind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.steps.push(Step::Event { object: Box::new(object), kind, reason, message: message.into() });
    }

    /// Looks again after `wait`, or sooner if that was planned.
    pub fn again(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |a| a.min(wait)));
    }

    /// Does it all in order; the first failure ends it, and the whole is looked at anew.
    pub async fn apply(self, context: &Context) -> Outcome {
        if !self.steps.is_empty() {
            tracing::debug!(controller = context.name, why = self.why, steps = self.steps.len(), "plan");
        }
        for step in &self.steps {
            match step {
                Step::Write(write) => {
                    context.writer.send(write).await?;
                }
                Step::Vanishing(write) => match context.writer.send(write).await {
                    Err(failure) if failure.not_found() => {}
                    other => drop(other?),
                },
                Step::Event { object, kind, reason, message } => {
                    context.recorder.record(object, *kind, reason, message.clone());
                }
            }
        }
        Ok(self.again)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "why: {}", self.why)?;
        for step in &self.steps {
            match step {
                Step::Write(write) | Step::Vanishing(write) => writeln!(f, "{write}")?,
                Step::Event { kind, reason, message, .. } => {
                    writeln!(f, "event {} {reason}: {message}", kind.as_str())?
                }
            }
        }
        match self.again {
            Some(wait) => writeln!(f, "again in {}s", wait.as_secs_f64()),
            None => Ok(()),
        }
    }
}
