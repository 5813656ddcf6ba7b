//! Reading and writing models.

#[path = "../support/mod.rs"]
mod support;
mod text;
