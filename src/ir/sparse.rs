//! Tensors in coordinate format.

use std::sync::Arc;

use super::{Tensor, TensorData, element_count};

impl Tensor {
    /// A sparse tensor; `values` are its non-zero elements and `indices` where they stand.
    pub fn sparse(dims: Vec<usize>, values: Tensor, indices: Tensor) -> Tensor {
        let dtype = values.dtype;
        Tensor { dtype, dims, data: TensorData::Sparse(Arc::new((values, indices))), info: None }
    }

    /// A dense tensor of numbers of 8 bits or more in coordinate format: what is not zero, and where
    /// it stands counted along all axes.
    pub fn to_sparse(&self) -> Option<Tensor> {
        let (raw, width) = (self.raw()?, self.dtype.bits() / 8);
        if width == 0 || self.is_empty() || self.rank() == 0 {
            return None;
        }
        let (mut values, mut indices) = (Vec::new(), Vec::new());
        for (i, element) in (0i64..).zip(raw.chunks_exact(width)) {
            if element.iter().any(|b| *b != 0) {
                values.extend_from_slice(element);
                indices.push(i);
            }
        }
        let values = Tensor::new(self.dtype, vec![indices.len()], values.into()).ok()?;
        Some(Tensor::sparse(self.dims.clone(), values, Tensor::vector(&indices)))
    }

    /// A sparse tensor in full; `None` for a dense one, where it would take more than `max_bytes`, and
    /// where an index lies outside.
    pub fn to_dense(&self, max_bytes: usize) -> Option<Tensor> {
        let TensorData::Sparse(parts) = &self.data else { return None };
        let (values, indices) = (&parts.0, parts.1.to_i64()?);
        let (raw, width) = (values.raw()?, values.dtype.bits() / 8);
        let size = self.dtype.byte_len(element_count(&self.dims)?)?;
        let mut bytes = vec![0; Some(size).filter(|n| *n <= max_bytes)?];
        // One index along all axes for each value, or one for each axis.
        let each = indices.len().checked_div(values.len()).unwrap_or(1);
        if width == 0 || each * values.len() != indices.len() || (each != 1 && each != self.rank())
        {
            return None;
        }
        for (value, at) in raw.chunks_exact(width).zip(indices.chunks(each.max(1))) {
            let mut place = 0;
            for (k, i) in at.iter().enumerate() {
                let n = if each == 1 { self.len() } else { self.dims[k] };
                place = place * n + usize::try_from(*i).ok().filter(|i| *i < n)?;
            }
            bytes[place * width..][..width].copy_from_slice(value);
        }
        Tensor::new(self.dtype, self.dims.clone(), bytes.into()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let dense = Tensor::of(&[2, 3], &[0.0f32, 1.5, 0.0, 0.0, 0.0, -2.0]);
        let sparse = dense.to_sparse().expect("numbers");
        assert!(matches!(sparse.data(), TensorData::Sparse(_)));
        assert_eq!(sparse.to_dense(24).as_ref(), Some(&dense));
        assert_eq!(sparse.to_dense(23), None);
        assert_eq!(dense.to_dense(24), None);
        let large = Tensor::sparse(vec![1 << 40, 1 << 40], dense.clone(), Tensor::vector(&[0i64]));
        assert_eq!(large.to_dense(usize::MAX), None);
    }

    #[test]
    fn indices_by_axis_and_outside() {
        let values = || Tensor::vector(&[1.5f32, -2.0]);
        let at = |indices: &[i64]| {
            Tensor::sparse(vec![2, 3], values(), Tensor::of(&[indices.len()], indices)).to_dense(24)
        };
        let dense = Tensor::of(&[2, 3], &[0.0f32, 1.5, 0.0, 0.0, 0.0, -2.0]);
        assert_eq!(at(&[0, 1, 1, 2]), Some(dense.clone()));
        assert_eq!(at(&[1, 5]), Some(dense));
        assert_eq!(at(&[1, 6]), None);
        assert_eq!(at(&[0, 1, 1, 3]), None);
        assert_eq!(at(&[0, -1, 1, 2]), None);
        assert_eq!(at(&[0, 1, 2]), None);
    }
}
