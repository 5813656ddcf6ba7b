//! Matrix products.

use super::facts::{count, operand_shape, result_shape};
use super::{Axes, InferCx, InferError, OpSchema, Quant, axes, broadcast};
use crate::ir::{DType, Dim, Graph, OpId, Shape};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: infer_gemm,
        macs: gemm_macs,
        quant: Quant::Weighted(1),
        axes: Axes::Rule(axes::gemm),
        ..OpSchema::new("Gemm")
    },
    OpSchema {
        infer: |cx| {
            let dtype = cx.dtype(0).or(cx.dtype(1));
            infer_matmul(cx, 1, dtype)
        },
        macs: matmul_macs,
        quant: Quant::Weighted(1),
        axes: Axes::Rule(axes::matmul),
        ..OpSchema::new("MatMul")
    },
    OpSchema {
        infer: |cx| infer_matmul(cx, 1, Some(DType::I32)),
        macs: matmul_macs,
        axes: Axes::Rule(axes::matmul_integer),
        ..OpSchema::new("MatMulInteger")
    },
    OpSchema {
        infer: |cx| {
            let dtype = cx.dtype(7);
            infer_matmul(cx, 3, dtype)
        },
        macs: matmul_macs,
        axes: Axes::Rule(axes::qlinear_matmul),
        ..OpSchema::new("QLinearMatMul")
    },
    OpSchema {
        infer: |cx| {
            let batch = cx.shape(0).map(|x| x[..x.len().saturating_sub(2)].to_vec());
            cx.set(0, cx.dtype(0), batch);
            Ok(())
        },
        ..OpSchema::new("Det")
    },
];

pub(super) fn infer_gemm(cx: &mut InferCx) -> Result<(), InferError> {
    let dtype = cx.dtype(0).or(cx.dtype(1));
    let side = |i: usize, name: &str| -> Result<Option<(Dim, Dim)>, InferError> {
        let Some(shape) = cx.shape(i) else { return Ok(None) };
        let swapped = cx.op().int_or(name, 0) != 0;
        match &shape[..] {
            [a, b] if swapped => Ok(Some((b.clone(), a.clone()))),
            [a, b] => Ok(Some((a.clone(), b.clone()))),
            _ => Err(format!("operand {i} has rank {} instead of 2", shape.len()).into()),
        }
    };
    let (a, b) = (side(0, "transA")?, side(1, "transB")?);
    if let (Some((_, k)), Some((l, _))) = (&a, &b)
        && k.differs(l)
    {
        return Err(format!("inner sizes {k} and {l} differ").into());
    }
    let rows = a.map_or(Dim::Unknown, |a| a.0);
    let columns = b.map_or(Dim::Unknown, |b| b.1);
    cx.set(0, dtype, Some(vec![rows, columns]));
    Ok(())
}

/// Every result element sums over the columns of the first factor.
pub(super) fn gemm_macs(g: &Graph, op: OpId) -> Option<Dim> {
    let a = operand_shape(g, op, 0)?;
    let inner = a.get(usize::from(g.op(op).int_or("transA", 0) == 0))?;
    count(result_shape(g, op, 0)?.iter().chain([inner]))
}

/// `FusedMatMul`, whose factors may be transposed: their last two axes change places.
pub(super) fn infer_fused(cx: &mut InferCx) -> Result<(), InferError> {
    let dtype = cx.dtype(0).or(cx.dtype(1));
    cx.set(0, dtype, None);
    let side = |i: usize, name: &str| {
        let mut shape = cx.shape(i)?.clone();
        let n = shape.len();
        if cx.op().int_or(name, 0) != 0 && n > 1 {
            shape.swap(n - 2, n - 1);
        }
        Some(shape)
    };
    let moved = ["transBatchA", "transBatchB"].iter().any(|name| cx.op().int_or(name, 0) != 0);
    if let (Some(x), Some(y), false) = (side(0, "transA"), side(1, "transB"), moved) {
        let shape = matmul_shape(&x, &y)?;
        cx.set(0, dtype, Some(shape));
    }
    Ok(())
}

/// The other factor is in slot `b`.
fn infer_matmul(cx: &mut InferCx, b: usize, dtype: Option<DType>) -> Result<(), InferError> {
    cx.set(0, dtype, None);
    if let (Some(x), Some(y)) = (cx.shape(0), cx.shape(b)) {
        let shape = matmul_shape(x, y)?;
        cx.set(0, dtype, Some(shape));
    }
    Ok(())
}

/// Shape of a matrix product by the rules of `numpy.matmul`.
fn matmul_shape(a: &[Dim], b: &[Dim]) -> Result<Shape, InferError> {
    let (Some(k), true) = (a.last(), !b.is_empty()) else {
        return Err("a factor is a scalar".into());
    };
    let l = &b[b.len().saturating_sub(2)];
    if k.differs(l) {
        return Err(format!("inner sizes {k} and {l} differ").into());
    }
    let mut shape = broadcast(&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)])?;
    if a.len() > 1 {
        shape.push(a[a.len() - 2].clone());
    }
    if b.len() > 1 {
        shape.push(b[b.len() - 1].clone());
    }
    Ok(shape)
}

/// Every result element sums over the last axis of the first factor.
fn matmul_macs(g: &Graph, op: OpId) -> Option<Dim> {
    let inner = operand_shape(g, op, 0)?.last()?;
    count(result_shape(g, op, 0)?.iter().chain([inner]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(sizes: &[i64]) -> Shape {
        sizes.iter().map(|&n| Dim::Known(n)).collect()
    }

    #[test]
    fn products_follow_numpy() {
        for (a, b, want) in [
            (&[2, 3][..], &[3, 4][..], &[2, 4][..]),
            (&[3], &[3, 4], &[4]),
            (&[2, 3], &[3], &[2]),
            (&[3], &[3], &[]),
            (&[5, 1, 2, 3], &[7, 3, 4], &[5, 7, 2, 4]),
        ] {
            assert_eq!(matmul_shape(&dims(a), &dims(b)), Ok(dims(want)));
        }
        assert!(matmul_shape(&dims(&[2, 3]), &dims(&[4, 5])).is_err());
        assert!(matmul_shape(&[], &dims(&[4, 5])).is_err());
    }
}
