//! Lapidary cuts and polishes ONNX models: it simplifies, prunes, quantizes and verifies them.
//!
//! ```text
//! onnx::load ─► ir::Model ─► recipe::run ─► onnx::save
//!                              steps: pass::simplify · prune::prune · quantize::quantize
//!                              checks: verify · evaluate, on an engine
//! ```
//!
//! A model is a [graph](ir::Graph) of op nodes and value nodes. Ops are generic: domain, type,
//! attributes; what is known of an operator stands in its [schema](ops::OpSchema). Values keep
//! their identity when another op makes them, and a constant is a value that holds data. Changes
//! go through [edits](ir::Graph) and [patches](ir::Patch), which keep the invariants of [`ir`].
//! Weights are handles on the mapped file until a step changes them.
//!
//! ```
//! use lapidary::{onnx, pass};
//!
//! let text = r#"
//!     <ir_version: 8, opset_import: ["" : 17]>
//!     agraph (float[N, 2] x) => (float[N, 2] y)
//!     <float[2] one = {1.0, 1.0}>
//!     {
//!         a = Identity (x)
//!         y = Mul (a, one)
//!     }"#;
//! let mut model = onnx::text::parse(text)?;
//! pass::simplify(&mut model, &mut pass::Cx::default())?;
//! assert_eq!(lapidary::ir::count_nodes(&model.graph), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
pub mod cli;
pub mod convert;
pub mod data;
pub mod diff;
pub mod engine;
pub mod evaluate;
pub mod gate;
pub mod ir;
mod maps;
pub mod onnx;
pub mod ops;
pub mod pass;
mod passes;
pub mod precision;
pub mod prune;
pub mod quantize;
pub mod recipe;
pub mod recover;
pub mod report;
pub mod share;
pub mod surgery;
pub mod target;
pub mod verify;
