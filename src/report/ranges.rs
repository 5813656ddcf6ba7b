//! Ranges that the Q/DQ pairs of a model stand for.

use serde::Serialize;

use super::stored::constant;
use crate::ir::{DType, Graph, Model, OpId, Tensor, for_each_graph};

/// A tensor that is quantized, with the values that its integers reach.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantRange {
    /// Name of the tensor: the float one of an activation, the integer one of a weight.
    pub tensor: String,
    /// It is stored, not computed.
    pub weight: bool,
    /// The integer type.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Number of scales: one, or one for each channel or block.
    pub scales: usize,
    /// Smallest and largest scale.
    pub scale: (f64, f64),
    /// Lowest and highest value that some channel can represent.
    pub range: (f64, f64),
}

/// Every tensor with constant scales, in the order of the graph, subgraphs first.
pub fn ranges(model: &Model) -> Vec<QuantRange> {
    let mut all = Vec::new();
    for_each_graph(&model.graph, &mut |g| {
        all.extend(g.order().into_iter().filter_map(|op| range(g, op)));
    });
    all
}

fn range(g: &Graph, op: OpId) -> Option<QuantRange> {
    let stored = g.operand(op, 0).and_then(|v| constant(g, v));
    let weight = match g.op(op).op_type.as_str() {
        "QuantizeLinear" if stored.is_none() => false,
        "DequantizeLinear" if stored.is_some() => true,
        _ => return None,
    };
    let at = |slot| g.operand(op, slot).and_then(|v| constant(g, v));
    let zero_point = at(2);
    let dtype = match stored {
        Some(t) => t.dtype(),
        None => zero_point.map_or(DType::U8, Tensor::dtype),
    };
    let scales = at(1)?.to_f64()?;
    let zeros = zero_point.and_then(Tensor::to_f64).unwrap_or_else(|| vec![0.0]);
    let (lo, hi) = levels(dtype)?;
    let mut range: Option<((f64, f64), (f64, f64))> = None;
    for (i, s) in scales.iter().enumerate() {
        let z = zeros.get(i).or(zeros.first()).copied().unwrap_or(0.0);
        let (a, b) = ((lo - z) * s, (hi - z) * s);
        let ((s0, s1), (r0, r1)) = range.unwrap_or(((*s, *s), (a, b)));
        range = Some(((s0.min(*s), s1.max(*s)), (r0.min(a), r1.max(b))));
    }
    let (scale, range) = range?;
    let tensor = g.operand(op, 0).map(|v| g.value(v).name().to_owned())?;
    Some(QuantRange { tensor, weight, dtype: dtype.name(), scales: scales.len(), scale, range })
}

/// Lowest and highest integer, or number of a small float type.
fn levels(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::F8E4M3FN => (-448.0, 448.0),
        DType::F8E5M2 => (-57344.0, 57344.0),
        DType::F4E2M1 => (-6.0, 6.0),
        d if d.is_int() && d.name().starts_with('u') => (0.0, (d.bits() as f64).exp2() - 1.0),
        d if d.is_int() => {
            let half = (d.bits() as f64 - 1.0).exp2();
            (-half, half - 1.0)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    #[test]
    fn activations_and_weights_by_type_and_zero_point() {
        let m = text::parse(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {1, 2, 3, 4}, float[2] s = {0.5, 2}, int8[2] z = {0, 0},
             float t = {0.1}, uint8 zt = {128}> {
                q = QuantizeLinear (x, t, zt)
                d = DequantizeLinear (q, t, zt)
                f = DequantizeLinear <axis = 1> (w, s, z)
                y = MatMul (d, f)
            }",
        )
        .expect("the text parses");
        let all = ranges(&m);
        assert_eq!((&all[0].tensor[..], all[0].weight, all[0].scales), ("x", false, 1));
        assert!((all[0].range.0 + 12.8).abs() < 1e-6 && (all[0].range.1 - 12.7).abs() < 1e-6);
        assert_eq!((&all[1].tensor[..], all[1].weight, all[1].scales), ("w", true, 2));
        assert_eq!((all[1].scale, all[1].range), ((0.5, 2.0), (-256.0, 254.0)));
        assert_eq!(all.len(), 2);
    }
}
