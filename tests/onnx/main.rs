//! Reading and writing models.

mod fidelity;
mod safety;
mod save;
#[path = "../support/mod.rs"]
mod support;
mod text;
