//! # fuse-dequantize
//!
//! ## What it does
//! Makes a DequantizeLinear of constant integers that are cast to float and multiplied by a scale.
//!
//! ## Before/after
//! ```text
//! a = Cast <to = 1> (w)        y = DequantizeLinear <axis = 1> (w, scale)
//! y = Mul (a, scale)           w is int8[64,32], scale is float[1,32] before and float[32] after
//! ```
//!
//! ## When it applies
//! The integers are constant and of 8 bits; the scale is constant, positive, a single number or one
//! for each index of one axis; nothing else reads the Cast, and MatMuls alone read the result, as
//! their second operand. Runtimes multiply by dequantized weights as they are stored; for any other
//! reader they would dequantize all of them in every run, but not so a Cast and a Mul, which they
//! compute before they run.
//!
//! ## What it preserves
//! The integers, so the file does not grow, and the name of the result.
//!
//! ## Limits
//! Needs opset 13, where scales became possible for each index. Zero points that are subtracted stay
//! as they are.

use super::pattern::{is_private, operand, result, sole_maker, with_const};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, Slot};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseDequantize;

static INFO: PassInfo = PassInfo {
    name: "fuse-dequantize",
    summary: "make a DequantizeLinear of Cast and Mul on constant integers",
    semantics: Semantics::Exact,
    source: include_str!("fuse_dequantize.rs"),
};

impl Rewrite for FuseDequantize {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 13 {
            return Err("before opset 13 there is one scale".into());
        }
        let pair = with_const(g, at)?;
        let cast = sole_maker(g, pair.other, &["Cast"]).ok_or("no Cast before it alone")?;
        let source = operand(g, cast, 0)?;
        let weight = g.const_tensor(source).ok_or("what is cast is no constant")?;
        let narrow = matches!(weight.dtype(), DType::I8 | DType::U8);
        if !narrow || g.value(pair.other).dtype() != Some(DType::F32) {
            return Err("it does not turn 8-bit integers into float".into());
        }
        let scale = pair.data;
        let values = scale.to_f32().ok_or("the scale is no float")?;
        if !values.iter().all(|&s| s > 0.0 && s.is_finite()) {
            return Err("a scale is not positive".into());
        }
        if scale.rank() > weight.rank() {
            return Err("the scale has more axes than the integers".into());
        }
        let shift = weight.rank() - scale.rank();
        let wide: Vec<usize> = (0..scale.rank()).filter(|&a| scale.dims()[a] != 1).collect();
        let mut op = Op::new("DequantizeLinear").named(g.op(at).name.clone());
        let dims = match wide[..] {
            [] => vec![],
            [axis] if scale.dims()[axis] == weight.dims()[shift + axis] => {
                op.set_attr("axis", (shift + axis) as i64);
                vec![scale.len()]
            }
            _ => return Err("the scale does not follow one axis".into()),
        };
        let made = result(g, at)?;
        let weighs =
            |(op, slot): &(OpId, Slot)| g.op(*op).is("MatMul") && *slot == Slot::Operand(1);
        if g.is_output(made) || !g.uses(made).iter().all(weighs) {
            return Err("something else than a MatMul reads the result".into());
        }
        let mut patch = Patch::at(at);
        let data = scale.reshaped(dims).ok_or("the scale does not fit")?;
        let constant = operand(g, at, 1 - pair.slot)?;
        if is_private(g, constant) {
            patch.frees(g, constant);
        }
        let name = format!("{}_scale", g.value(result(g, at)?).name());
        let data = patch.constant(name, data);
        patch.replace(g, at, op, vec![Some(source.into()), Some(data)]);
        Ok(patch)
    }
}
