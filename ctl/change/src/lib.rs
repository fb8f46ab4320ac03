//! Everyday verbs that write: create, apply, diff, edit, patch, replace, delete, label, scale, rollout, drain and more.
