//! # fuse-pad
//!
//! ## What it does
//! Folds a Pad with zeros into the Conv or AveragePool after it, and a Pad with minus infinity into a
//! MaxPool.
//!
//! ## Before/after
//! ```text
//! a = Pad (x, {0,0,1,1,0,0,1,1})           y = Conv <pads = [1,1,1,1]> (x, w)
//! y = Conv (a, w)
//! ```
//!
//! ## When it applies
//! The pads are constant, not negative, and only on the axes that the window moves over; the window
//! op has explicit pads.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! An AveragePool must count padded elements or have no pads of its own, and must not round up. A
//! MaxPool that hands out indices stays. Runtimes want the pads of a pool to be smaller than its
//! window.

use super::pattern::{ints_at, operand, sole_maker};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FusePad;

static INFO: PassInfo = PassInfo {
    name: "fuse-pad",
    summary: "fold a Pad into the convolution or pooling after it",
    semantics: Semantics::Exact,
    source: include_str!("fuse_pad.rs"),
};

impl Rewrite for FusePad {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Conv", "AveragePool", "MaxPool"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let pad = sole_maker(g, operand(g, at, 0)?, &["Pad"]).ok_or("no Pad before it alone")?;
        let op = g.op(at);
        if !matches!(op.str("auto_pad"), None | Some("NOTSET" | "VALID")) {
            return Err("its own pads depend on the size".into());
        }
        let source = operand(g, pad, 0)?;
        let rank = g.value(source).rank().ok_or("the rank is not known")?;
        let outer = pads(g, pad, rank, site.opset)?;
        if rank < 3 || outer[..2].iter().chain(&outer[rank..rank + 2]).any(|&p| p != 0) {
            return Err("it pads the batch or the channels".into());
        }
        let spatial = rank - 2;
        let valid = op.str("auto_pad") == Some("VALID");
        let own = match op.ints("pads") {
            Some(own) if !valid && own.len() == 2 * spatial => own.to_vec(),
            None => vec![0; 2 * spatial],
            Some(_) if valid => vec![0; 2 * spatial],
            Some(_) => return Err("its pads do not have the right length".into()),
        };
        check_fill(g, at, pad, &own, site.opset)?;
        let sum: Vec<i64> = (0..2 * spatial)
            .map(|i| own[i] + outer[if i < spatial { 2 + i } else { rank + 2 + i - spatial }])
            .collect();
        if !op.is("Conv") {
            let kernel = op.ints("kernel_shape").ok_or("the size of its window is missing")?;
            if kernel.len() != spatial
                || sum.iter().enumerate().any(|(i, p)| *p >= kernel[i % spatial])
            {
                return Err("a window would lie in the padding alone".into());
            }
        }
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(source.into()));
        patch.set_attr(at, "pads", sum);
        patch.remove_attr(at, "auto_pad");
        if op.is("AveragePool") {
            patch.set_attr(at, "count_include_pad", 1);
        }
        Ok(patch)
    }
}

/// All pads, zeros for axes that are not named.
fn pads(g: &Graph, pad: OpId, rank: usize, opset: i64) -> Result<Vec<i64>, Miss> {
    let attr = if opset < 2 { "paddings" } else { "pads" };
    let given = ints_at(g, pad, attr, 1)?.ok_or("its pads are missing")?;
    let axes = match ints_at(g, pad, "axes", 3)? {
        None => (0..rank).collect(),
        Some(axes) => {
            let axes: Option<Vec<usize>> =
                axes.into_iter().map(|a| crate::ops::normalize_axis(a, rank)).collect();
            axes.ok_or("an axis is out of range")?
        }
    };
    if given.len() != 2 * axes.len() || given.iter().any(|&p| p < 0) {
        return Err("its pads are negative or too few".into());
    }
    let mut pads = vec![0; 2 * rank];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = given[i];
        pads[rank + axis] = given[axes.len() + i];
    }
    Ok(pads)
}

/// The Pad fills with what the window op takes for padding.
fn check_fill(g: &Graph, at: OpId, pad: OpId, own: &[i64], opset: i64) -> Result<(), Miss> {
    if !matches!(g.op(pad).str("mode"), None | Some("constant")) {
        return Err("it pads with elements of the tensor".into());
    }
    let fill = match g.operand(pad, 2).filter(|_| opset >= 11) {
        Some(v) => super::pattern::scalar(g, v).ok_or("its fill is no constant")?,
        None => f64::from(g.op(pad).float_or("value", 0.0)),
    };
    let op = g.op(at);
    match op.op_type.as_str() {
        "Conv" if fill == 0.0 => Ok(()),
        "MaxPool" if fill == f64::NEG_INFINITY && g.result(at, 1).is_none() => {
            if op.int_or("ceil_mode", 0) != 0 {
                return Err("it rounds its size up".into());
            }
            Ok(())
        }
        "AveragePool" if fill == 0.0 => {
            let counts = op.int_or("count_include_pad", 0) != 0 || own.iter().all(|&p| p == 0);
            if opset < 7 || !counts || op.int_or("ceil_mode", 0) != 0 {
                return Err("it counts padded elements in another way".into());
            }
            Ok(())
        }
        _ => Err("it fills with something else".into()),
    }
}
