//! What a schema expects at a place.

use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};

/// What is expected at this place.
#[derive(Clone, Copy)]
pub enum Slot {
    /// An object of a type.
    Root(&'static Type),
    /// The value of a field.
    Field(&'static Field),
    /// One item of a list or map.
    Item(&'static Field),
    /// A string inside a list of strings.
    Text,
    /// Anything.
    Any,
}

/// What a slot comes down to.
pub enum Want {
    Struct(&'static Type),
    List(&'static Field),
    Map(&'static Field),
    Scalar(FieldKind),
    Form(&'static Type, JsonForm),
    Any,
}

impl Slot {
    pub fn want(self) -> Want {
        match self {
            Self::Root(ty) => want_type(ty),
            Self::Field(f) if f.card == Card::List => Want::List(f),
            Self::Field(f) if f.card == Card::Map => Want::Map(f),
            Self::Field(f) | Self::Item(f) => match (f.kind, f.ty()) {
                (FieldKind::Message, Some(ty)) => want_type(ty),
                (FieldKind::Any | FieldKind::Message, _) => Want::Any,
                (kind, _) => Want::Scalar(kind),
            },
            Self::Text => Want::Scalar(FieldKind::String),
            Self::Any => Want::Any,
        }
    }

    pub fn go_type(self) -> String {
        match self {
            Self::Root(ty) => ty.go_name(),
            Self::Field(f) => f.go_type(),
            Self::Item(f) => f.go_item_type(),
            Self::Text => "string".into(),
            Self::Any => "interface {}".into(),
        }
    }
}

fn want_type(ty: &'static Type) -> Want {
    match ty.form {
        JsonForm::Object => Want::Struct(ty),
        JsonForm::Raw | JsonForm::FieldsV1 | JsonForm::Json => Want::Any,
        form => Want::Form(ty, form),
    }
}
