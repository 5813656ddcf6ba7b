//! Lapidary cuts and polishes ONNX models.
pub mod cli;
pub mod data;
pub mod engine;
pub mod evaluate;
pub mod ir;
pub mod onnx;
pub mod ops;
pub mod pass;
mod passes;
pub mod prune;
pub mod quantize;
pub mod recipe;
pub mod report;
pub mod target;
pub mod verify;
