//! Labels of samples.

use std::path::Path;

use super::{DataError, idx, npy};
use crate::ir::Tensor;

/// Names under which .npz files hold labels, tried in order.
pub(super) const KEYS: [&str; 3] = ["y", "label", "labels"];

/// Reads a file of labels.
pub(super) fn read(path: &Path) -> Result<Vec<i64>, DataError> {
    let is_npy = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    let t = match is_npy {
        true => npy::read_npy(path)?,
        false => idx::read(path)?,
    };
    integers(&t, path)
}

/// Labels as integers: of a tensor of integers, `[n]` or `[n, 1]`.
pub(super) fn integers(t: &Tensor, path: &Path) -> Result<Vec<i64>, DataError> {
    let flat = t.dims().iter().skip(1).all(|&d| d == 1) && t.rank() > 0;
    t.to_i64().filter(|_| flat).ok_or_else(|| DataError::Format {
        path: path.to_owned(),
        kind: "label",
        what: format!("labels are a list of integers, not {}{:?}", t.dtype(), t.dims()),
    })
}
