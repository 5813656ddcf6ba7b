//! Operators that select or scatter elements by index.

use super::elementwise::infer_same;
use super::eval::index;
use super::{Axes, InferCx, InferError, OpSchema, Quant, axes, normalize_axis};
use crate::ir::{DType, Dim, Shape};

type Inferred = Result<(), InferError>;

const fn picking(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema { infer, quant: Quant::PassThrough, ..OpSchema::new(op_type) }
}

const fn scattering(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_same, ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer: infer_compress, ..OpSchema::new("Compress") },
    OpSchema {
        axes: Axes::Rule(axes::gather),
        eval: Some(index::gather),
        ..picking("Gather", infer_gather)
    },
    OpSchema {
        eval: Some(index::gather_elements),
        ..picking("GatherElements", infer_gather_elements)
    },
    OpSchema { eval: Some(index::gather_nd), ..picking("GatherND", infer_gather_nd) },
    OpSchema { infer: infer_non_zero, eval: Some(index::non_zero), ..OpSchema::new("NonZero") },
    OpSchema { infer: infer_one_hot, ..OpSchema::new("OneHot") },
    scattering("Scatter"),
    scattering("ScatterElements"),
    OpSchema { eval: Some(index::scatter_nd), ..scattering("ScatterND") },
    OpSchema { infer: infer_unique, ..OpSchema::new("Unique") },
];

fn infer_gather(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let (Some(data), Some(indices)) = (cx.shape(0), cx.shape(1)) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", 0), data.len())?;
    let shape = [&data[..axis], indices, &data[axis + 1..]].concat();
    let flat = data.len() == 1 && indices.len() <= 1;
    cx.set(0, dtype, Some(shape));
    if let (Some(v), Some(at), true) = (cx.ints(0), cx.ints(1), flat) {
        let pick = |i: &Dim| {
            let i = i.known().and_then(|i| normalize_axis(i, v.len()));
            i.map_or(Dim::Unknown, |i| v[i].clone())
        };
        cx.set_ints(0, at.iter().map(pick).collect());
    }
    Ok(())
}

fn infer_gather_elements(cx: &mut InferCx) -> Inferred {
    cx.set(0, cx.dtype(0), cx.shape(1).cloned());
    Ok(())
}

fn infer_gather_nd(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let shape = match (cx.shape(0), cx.shape(1)) {
        (Some(data), Some(indices)) => {
            let batch = usize::try_from(cx.op().int_or("batch_dims", 0)).unwrap_or(usize::MAX);
            let (depth, outer) = indices.split_last().ok_or("indices of rank 0")?;
            match depth.size() {
                Some(k) => {
                    let rest = data.get(batch.saturating_add(k)..);
                    let rest = rest.ok_or("indices are deeper than the data")?;
                    Some([outer, rest].concat())
                }
                None => None,
            }
        }
        _ => None,
    };
    cx.set(0, dtype, shape);
    Ok(())
}

fn infer_one_hot(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(2);
    let Some(indices) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", -1), indices.len() + 1)?;
    let depth = match (cx.ints(1).as_deref(), cx.tensor(1).and_then(|t| t.single())) {
        (Some([d]), _) if d.is_some() => d.clone(),
        (_, Some(d)) if d >= 0.0 => Dim::Known(d as i64),
        _ => Dim::fresh(),
    };
    let mut shape = indices.clone();
    shape.insert(axis, depth);
    cx.set(0, dtype, Some(shape));
    Ok(())
}

fn infer_compress(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let shape = match (cx.op().int("axis"), cx.shape(0)) {
        (None, _) => Some(vec![Dim::fresh()]),
        (Some(axis), Some(s)) => {
            let mut s = s.clone();
            let axis = cx.axis(axis, s.len())?;
            s[axis] = Dim::fresh();
            Some(s)
        }
        (Some(_), None) => None,
    };
    cx.set(0, dtype, shape);
    Ok(())
}

fn infer_non_zero(cx: &mut InferCx) -> Inferred {
    // A scalar counts as a vector of one element in some runtimes.
    let rank = cx.rank(0).filter(|&r| r > 0).map_or(Dim::fresh(), Dim::from);
    cx.set(0, Some(DType::I64), Some(vec![rank, Dim::fresh()]));
    Ok(())
}

fn infer_unique(cx: &mut InferCx) -> Inferred {
    let (dtype, count) = (cx.dtype(0), Dim::fresh());
    let (shape, inverse): (Option<Shape>, Dim) = match (cx.op().int("axis"), cx.shape(0)) {
        (None, Some(s)) => (Some(vec![count.clone()]), Dim::product(s)),
        (None, None) => (Some(vec![count.clone()]), Dim::Unknown),
        (Some(axis), Some(s)) => {
            let axis = cx.axis(axis, s.len())?;
            let (mut shape, len) = (s.clone(), s[axis].clone());
            shape[axis] = count.clone();
            (Some(shape), len)
        }
        (Some(_), None) => (None, Dim::Unknown),
    };
    let inverse = if inverse.is_some() { inverse } else { Dim::fresh() };
    cx.set(0, dtype, shape);
    cx.set(1, Some(DType::I64), Some(vec![count.clone()]));
    cx.set(2, Some(DType::I64), Some(vec![inverse]));
    cx.set(3, Some(DType::I64), Some(vec![count]));
    Ok(())
}
