//! Operators that move elements about: transpose, concatenate, expand, tile and the like.

use super::creation::shape_from;
use super::elementwise::infer_same;
use super::eval::{join, layout};
use super::unify_dim;
use super::{Axes, InferCx, InferError, OpSchema, Quant, axes, broadcast};
use crate::ir::{DType, Dim, Shape};

type Inferred = Result<(), InferError>;

const fn moving(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema { infer, quant: Quant::PassThrough, ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        axes: Axes::Rule(axes::concat),
        eval: Some(join::concat),
        ..moving("Concat", infer_concat)
    },
    OpSchema {
        axes: Axes::Rule(axes::depth_to_space),
        eval: Some(layout::depth_to_space),
        ..moving("DepthToSpace", infer_depth_to_space)
    },
    OpSchema {
        infer: infer_dropout,
        axes: Axes::Elementwise,
        deterministic: false,
        ..OpSchema::new("Dropout")
    },
    OpSchema {
        axes: Axes::Rule(axes::expand),
        eval: Some(layout::expand),
        ..moving("Expand", infer_expand)
    },
    OpSchema {
        axes: Axes::Elementwise,
        idempotent: true,
        eval: Some(layout::identity),
        ..moving("Identity", infer_identity)
    },
    moving("ReverseSequence", infer_same),
    OpSchema {
        axes: Axes::Rule(axes::space_to_depth),
        eval: Some(layout::space_to_depth),
        ..moving("SpaceToDepth", infer_space_to_depth)
    },
    OpSchema {
        axes: Axes::Rule(axes::tile),
        eval: Some(layout::tile),
        ..moving("Tile", infer_tile)
    },
    OpSchema {
        axes: Axes::Rule(axes::transpose),
        eval: Some(layout::transpose),
        ..moving("Transpose", infer_transpose)
    },
    OpSchema { infer: infer_same, eval: Some(join::trilu), ..OpSchema::new("Trilu") },
];

fn infer_identity(cx: &mut InferCx) -> Inferred {
    cx.copy_type(0, 0);
    cx.copy_ints(0, 0);
    Ok(())
}

fn infer_dropout(cx: &mut InferCx) -> Inferred {
    cx.copy_type(0, 0);
    let mask = if cx.opset() < 10 { cx.dtype(0) } else { Some(DType::Bool) };
    cx.set(1, mask, cx.shape(0).cloned());
    Ok(())
}

fn infer_transpose(cx: &mut InferCx) -> Inferred {
    let shape = match cx.shape(0) {
        Some(s) => {
            let reversed: Vec<i64> = (0..s.len() as i64).rev().collect();
            let perm = cx.op().ints("perm").unwrap_or(&reversed);
            if perm.len() != s.len() {
                return Err("perm does not name every axis".into());
            }
            let axes: Vec<usize> =
                perm.iter().map(|&a| cx.axis(a, s.len())).collect::<Result<_, _>>()?;
            Some(axes.into_iter().map(|a| s[a].clone()).collect::<Shape>())
        }
        None => None,
    };
    let flat = cx.rank(0).is_some_and(|r| r <= 1);
    cx.set(0, cx.dtype(0), shape);
    if flat {
        cx.copy_ints(0, 0);
    }
    Ok(())
}

fn infer_concat(cx: &mut InferCx) -> Inferred {
    let dtype = (0..cx.arity()).find_map(|i| cx.dtype(i));
    let Some(rank) = (0..cx.arity()).find_map(|i| cx.rank(i)) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", 1), rank)?;
    let mut shape: Shape = vec![Dim::Unknown; rank];
    shape[axis] = Dim::Known(0);
    for i in 0..cx.arity() {
        match cx.shape(i) {
            None => shape[axis] = Dim::Unknown,
            Some(s) if s.len() != rank => return Err("operands of different ranks".into()),
            Some(s) => {
                for (a, dim) in s.iter().enumerate() {
                    if a != axis && shape[a].differs(dim) {
                        return Err(format!("sizes {} and {dim} do not join", shape[a]).into());
                    }
                    let joined =
                        if a == axis { &shape[a] + dim } else { unify_dim(&shape[a], dim) };
                    shape[a] = joined;
                }
            }
        }
    }
    let sized = |d: Dim| if d.is_some() { d } else { Dim::fresh() };
    cx.set(0, dtype, Some(shape.into_iter().map(sized).collect()));
    if rank == 1 {
        concat_ints(cx);
    }
    Ok(())
}

/// The elements of joined vectors; those of an operand that is not known stay unknown.
fn concat_ints(cx: &mut InferCx) {
    let mut all = Vec::new();
    for i in 0..cx.arity() {
        match (cx.ints(i), cx.shape(i).and_then(|s| s[0].size())) {
            (Some(v), _) => all.extend(v),
            (None, Some(n)) if n <= super::MAX_SYM => all.extend(vec![Dim::Unknown; n]),
            _ => return,
        }
    }
    if all.iter().any(Dim::is_some) {
        cx.set_ints(0, all);
    }
}

fn infer_expand(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let (Some(input), Some(wish)) = (cx.shape(0), shape_from(cx, 1)) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    if wish.iter().any(|d| d.known().is_some_and(|n| n < 0)) {
        return Err("a negative size in the shape".into());
    }
    let shape = broadcast(input, &wish)?;
    let repeated = match (cx.ints(0).as_deref(), shape.as_slice()) {
        (Some(v), []) => Some(v.to_vec()),
        (Some([one]), [n]) => {
            n.size().filter(|&n| n <= super::MAX_SYM).map(|n| vec![one.clone(); n])
        }
        (Some(v), [n]) if n.size() == Some(v.len()) => Some(v.to_vec()),
        _ => None,
    };
    cx.set(0, dtype, Some(shape));
    if let Some(elements) = repeated {
        cx.set_ints(0, elements);
    }
    Ok(())
}

fn infer_tile(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(input) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    // Version 1 names one axis and how often to repeat it.
    let repeats = if cx.opset() < 6 { None } else { cx.ints(1) };
    let mut shape = input.clone();
    match repeats {
        Some(r) if r.len() != shape.len() => return Err("repeats do not name every axis".into()),
        Some(r) => {
            for (dim, r) in shape.iter_mut().zip(&r) {
                let tiled = &*dim * r;
                *dim = if tiled.is_some() { tiled } else { Dim::fresh() };
            }
            if let (Some(v), [n]) = (cx.ints(0), r.as_slice()) {
                let n = n.size().filter(|n| n.saturating_mul(v.len()) <= super::MAX_SYM);
                if let Some(n) = n {
                    cx.set_ints(0, (0..n).flat_map(|_| v.iter().cloned()).collect());
                }
            }
        }
        None => shape.iter_mut().for_each(|d| *d = Dim::fresh()),
    }
    cx.set(0, dtype, Some(shape));
    Ok(())
}

/// The block size as a dim, and the four sizes of operand 0.
fn blocks<'a>(cx: &InferCx<'a>) -> Result<Option<(Dim, &'a [Dim])>, InferError> {
    let size = cx.op().int("blocksize").filter(|&b| b > 0).ok_or("no block size")?;
    match cx.shape(0) {
        Some(s) if s.len() != 4 => Err("the operand is not of rank 4".into()),
        Some(s) => Ok(Some((Dim::Known(size), s))),
        None => Ok(None),
    }
}

fn infer_depth_to_space(cx: &mut InferCx) -> Inferred {
    let shape = blocks(cx)?
        .map(|(b, s)| vec![s[0].clone(), s[1].floor_div(&(&b * &b)), &s[2] * &b, &s[3] * &b]);
    cx.set(0, cx.dtype(0), shape);
    Ok(())
}

fn infer_space_to_depth(cx: &mut InferCx) -> Inferred {
    let shape = blocks(cx)?.map(|(b, s)| {
        vec![s[0].clone(), &s[1] * &(&b * &b), s[2].floor_div(&b), s[3].floor_div(&b)]
    });
    cx.set(0, cx.dtype(0), shape);
    Ok(())
}
