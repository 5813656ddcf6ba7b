//! Reading and writing models.

mod fidelity;
#[path = "../support/mod.rs"]
mod support;
mod text;
