//! Printers: `-o` and what it makes of objects.

pub mod age;
pub mod columns;
pub mod gotemplate;
pub mod gotext;
pub mod json;
pub mod jsonpath;
pub mod kyaml;
pub mod output;
pub mod paint;
pub mod sort;
pub mod tab;
pub mod table;
pub mod typed;
pub mod yaml;

pub use output::{Output, PrintArgs, Printer, done, hide_managed_fields, list_of};
