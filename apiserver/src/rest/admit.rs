//! Runs the admission plugins.

use machinery::status::Status;
use serde_json::Value;

use super::Target;
use crate::admission::{Attributes, Operation};
use crate::request::Ctx;

/// One write, as the phases share it.
pub struct Admission<'a> {
    /// The request.
    pub ctx: &'a Ctx,
    /// What it is about.
    pub target: &'a Target,
    /// What it does.
    pub op: Operation,
    /// Its options.
    pub options: &'a Value,
}

impl Admission<'_> {
    fn attributes<'b>(
        &'b self,
        name: &'b str,
        object: Option<&'b mut Value>,
        old: Option<&'b Value>,
    ) -> Attributes<'b> {
        Attributes {
            op: self.op,
            resource: &self.target.resource,
            subresource: &self.target.subresource,
            namespace: &self.target.namespace,
            name,
            user: &self.ctx.user,
            object,
            old,
            options: self.options,
            dry_run: self.ctx.dry_run,
            warnings: &self.ctx.warnings,
            charges: &self.ctx.charges,
            app: &self.ctx.app,
        }
    }

    /// The mutating phase.
    pub async fn mutate(&self, object: Option<&mut Value>, old: Option<&Value>) -> Result<(), Status> {
        let name = self.name(object.as_deref(), old);
        let mut attributes = self.attributes(&name, object, old);
        for plugin in &self.ctx.app.admission {
            if plugin.handles(self.op, &self.target.resource, &self.target.subresource) {
                plugin.admit(&mut attributes).await?;
            }
        }
        Ok(())
    }

    /// The validating phase. The object is borrowed mutably only because the plugins' one view of a write has it so.
    pub async fn validate(&self, object: Option<&mut Value>, old: Option<&Value>) -> Result<(), Status> {
        let name = self.name(object.as_deref(), old);
        let attributes = self.attributes(&name, object, old);
        for plugin in &self.ctx.app.admission {
            if plugin.handles(self.op, &self.target.resource, &self.target.subresource) {
                plugin.validate(&attributes).await?;
            }
        }
        Ok(())
    }

    fn name(&self, object: Option<&Value>, old: Option<&Value>) -> String {
        if !self.target.name.is_empty() {
            return self.target.name.clone();
        }
        object.or(old).map(machinery::meta::name).unwrap_or_default().to_owned()
    }
}

/// Admission of exec, attach, portforward and proxy. The options are the query.
pub async fn connect(ctx: &Ctx, target: &Target, query: &str) -> Result<(), Status> {
    let options = Value::String(query.to_owned());
    let admission = Admission { ctx, target, op: Operation::Connect, options: &options };
    admission.mutate(None, None).await?;
    admission.validate(None, None).await
}
