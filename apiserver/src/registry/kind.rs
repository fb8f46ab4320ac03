//! What is to be said of one kind, as a value.

use super::errs::Errs;
use super::rules::Row;
use super::validate::meta::NameRule;
use crate::request::UserInfo;
use crate::strategy::GcPolicy;
use serde_json::Value;

/// What counts as a change of the wish, and so raises `metadata.generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// 1 when created, never raised.
    Fixed,
    /// One of these members changed.
    Members(&'static [&'static str]),
    /// One of these members changed, but it does not start with the object (it stays unset until the first change).
    OnChange(&'static [&'static str]),
    /// One of these members or the annotations changed.
    MembersOrAnnotations(&'static [&'static str]),
    /// Anything but metadata, or the labels, changed.
    AllButMetadataOrLabels,
    /// Anything but metadata changed.
    AllButMetadata,
}

/// What the `status` endpoint leaves alone besides everything that is not status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMeta {
    /// Metadata may change with the status.
    Free,
    /// Labels stay.
    KeepLabels,
    /// Owner references and the time of deletion stay.
    KeepOwners,
    /// All of metadata stays.
    Keep,
}

/// How deletion of the kind goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// At once.
    Immediate,
    /// A pod's: after its grace period.
    Pod,
    /// A namespace's: once its contents are gone.
    Namespace,
}

/// Everything that sets a kind apart.
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// Resource name.
    pub plural: &'static str,
    /// Form of the name.
    pub name: NameRule,
    /// There is a status the client cannot set through the object.
    pub status: bool,
    /// What the status endpoint leaves alone.
    pub status_meta: StatusMeta,
    /// When the generation is raised.
    pub generation: Generation,
    /// An update may create.
    pub create_on_update: bool,
    /// An update need not name a version.
    pub unconditional_update: bool,
    /// Dependents on delete.
    pub gc: GcPolicy,
    /// How deletion goes.
    pub deletion: Deletion,
    /// What the server sets in a new object.
    pub prepare_create: fn(&mut Value),
    /// What the server takes from who creates it.
    pub from_user: Option<fn(&mut Value, &UserInfo)>,
    /// What the server keeps or sets in a changed object (new, old).
    pub prepare_update: fn(&mut Value, &Value),
    /// The same for a changed status.
    pub prepare_status: fn(&mut Value, &Value),
    /// Rules of new and of changed objects alike, as rows.
    pub rules: &'static [Row],
    /// The same as code; the old object is given for an update.
    pub validate: fn(&Value, Option<&Value>, &mut Errs),
    /// Members that may not change.
    pub fixed: &'static [&'static str],
    /// Rules of a change beyond that (new, old).
    pub validate_update: fn(&Value, &Value, &mut Errs),
    /// Rules of a changed status, as rows.
    pub status_rules: &'static [Row],
    /// The same as code (new, old).
    pub validate_status: fn(&Value, &Value, &mut Errs),
    /// Warnings about a new (no old) or changed object.
    pub warnings: fn(&Value, Option<&Value>, &mut Vec<String>),
    /// The final touch before an object is stored.
    pub canonicalize: fn(&mut Value),
    /// Subresources with rules of their own.
    pub subresources: &'static [(&'static str, Sub)],
}

/// A subresource through which a part of the object changes.
#[derive(Clone, Copy)]
pub struct Sub {
    /// Carries over what this endpoint may not change (new, old).
    pub prepare: fn(&mut Value, &Value),
    /// Rules of the change (new, old).
    pub validate: fn(&Value, &Value, &mut Errs),
}

impl Kind {
    /// The kind of which nothing particular is to be said; others are this with changes.
    pub const PLAIN: Kind = Kind {
        group: "",
        plural: "",
        name: NameRule::Subdomain,
        status: false,
        status_meta: StatusMeta::Free,
        generation: Generation::None,
        create_on_update: false,
        unconditional_update: true,
        gc: GcPolicy::Background,
        deletion: Deletion::Immediate,
        prepare_create: |_| {},
        from_user: None,
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        rules: &[],
        validate: |_, _, _| {},
        fixed: &[],
        validate_update: |_, _, _| {},
        status_rules: &[],
        validate_status: |_, _, _| {},
        warnings: |_, _, _| {},
        canonicalize: |_| {},
        subresources: &[],
    };

    /// A custom resource; `status` when it has that subresource.
    pub const fn custom(status: bool) -> Kind {
        let status_meta = StatusMeta::Keep;
        let generation = Generation::AllButMetadata;
        Kind { status, status_meta, generation, unconditional_update: false, ..Kind::PLAIN }
    }

    /// A core kind.
    pub const fn core(plural: &'static str) -> Kind {
        Kind { plural, ..Kind::PLAIN }
    }

    /// A kind of a named group.
    pub const fn of(group: &'static str, plural: &'static str) -> Kind {
        Kind { group, plural, ..Kind::PLAIN }
    }
}
