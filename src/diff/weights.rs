//! Stored tensors side by side, each pair read once at most.

use std::collections::HashMap;

use bytes::Bytes;
use rayon::prelude::*;
use serde::Serialize;

use crate::ir::{DType, Tensor, TensorData};
use crate::verify::Sums;

/// How a constant operand differs.
#[derive(Clone, Debug, Serialize)]
pub struct WeightDiff {
    /// Operand slot of the op that reads it.
    pub operand: usize,
    /// Its name in the first model.
    pub before_name: String,
    /// Its name in the second model.
    pub after_name: String,
    /// Element type and dims in the first model.
    pub before: String,
    /// Element type and dims in the second model.
    pub after: String,
    /// The elements of both, where they are a few integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<(Vec<i64>, Vec<i64>)>,
    /// How the elements differ, where type and dims are the same and they are numbers.
    #[serde(flatten)]
    pub elements: Option<Elements>,
}

/// How elements of two tensors of one type and dims differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Elements {
    /// Largest absolute difference.
    pub max_change: f64,
    /// Largest absolute value in the first tensor.
    pub max_value: f64,
    /// Ratio of signal to difference in decibels, for floats that differ.
    pub sqnr_db: Option<f64>,
    /// Share of equal elements, for integers.
    pub equal: Option<f64>,
    /// Elements that are NaN or infinite on one side and not the same on the other.
    pub non_finite: u64,
}

/// Work that the comparison of weights took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Bytes of weights that are equal because both lie at the same place of one file.
    pub shared_bytes: u64,
    /// Bytes of weights in each model that were read and compared.
    pub read_bytes: u64,
}

/// Place in memory of the two sides.
type Place = (usize, usize, usize);

/// What is known of pairs of tensors.
#[derive(Default)]
pub(super) struct Weights {
    known: HashMap<Place, Option<Elements>>,
    effort: Effort,
}

/// Integers up to this many are shown, not summed up.
const FEW: usize = 16;
/// Elements per unit of parallel work; a multiple of what a byte holds of any type.
const CHUNK: usize = 1 << 16;

impl Weights {
    pub(super) fn effort(&self) -> Effort {
        self.effort
    }

    /// How the two differ; `None` when type, dims and all bits are the same. Names and the operand
    /// are left to the caller.
    pub(super) fn compare(&mut self, a: &Tensor, b: &Tensor) -> Option<WeightDiff> {
        let kind = |t: &Tensor| {
            let dims: Vec<String> = t.dims().iter().map(usize::to_string).collect();
            format!("{}[{}]", t.dtype(), dims.join(","))
        };
        let mut diff = WeightDiff {
            operand: 0,
            before_name: String::new(),
            after_name: String::new(),
            before: kind(a),
            after: kind(b),
            values: few(a).zip(few(b)),
            elements: None,
        };
        if a.dtype() == b.dtype() && a.dims() == b.dims() {
            diff.elements = self.elements(a, b)?;
        }
        Some(diff)
    }

    /// `None` when they are equal, `Some(None)` when they differ and no numbers say how.
    fn elements(&mut self, a: &Tensor, b: &Tensor) -> Option<Option<Elements>> {
        if a.same_storage(b) {
            self.effort.shared_bytes += a.byte_len() as u64;
            return None;
        }
        let (TensorData::Raw(x), TensorData::Raw(y)) = (a.data(), b.data()) else {
            return (a.data() != b.data()).then_some(None);
        };
        let place = (x.as_ptr() as usize, y.as_ptr() as usize, x.len());
        if let Some(known) = self.known.get(&place) {
            return known.clone().map(Some);
        }
        self.effort.read_bytes += x.len() as u64;
        let found = measure(a, b);
        self.known.insert(place, found.clone());
        found.map(Some)
    }
}

fn few(t: &Tensor) -> Option<Vec<i64>> {
    let whole = matches!(t.dtype(), DType::I64 | DType::I32 | DType::Bool) && t.len() <= FEW;
    t.to_i64().filter(|_| whole)
}

/// Both tensors have one type and dims and are dense. `None` when all bytes are equal.
fn measure(a: &Tensor, b: &Tensor) -> Option<Elements> {
    let (x, y) = (a.raw()?, b.raw()?);
    let width = CHUNK * a.dtype().bits() / 8;
    let starts: Vec<usize> = (0..x.len()).step_by(width.max(1)).collect();
    let range = |start: usize| start..(start + width).min(x.len());
    let differs = |start: &usize| x[range(*start)] != y[range(*start)];
    if !starts.par_iter().any(differs) {
        return None;
    }
    let part = |start: &usize| {
        let bytes = range(*start);
        let n = bytes.len() * 8 / a.dtype().bits();
        let cut = |raw: &Bytes| Tensor::new(a.dtype(), vec![n], raw.slice(bytes.clone())).ok();
        let mut sums = Sums::default();
        if let (Some(p), Some(q)) = (cut(x), cut(y)) {
            sums.add(&p, &q);
        }
        sums
    };
    let parts: Vec<Sums> = starts.par_iter().map(part).collect();
    let mut sums = Sums::default();
    parts.iter().for_each(|s| sums.merge(s));
    let found = sums.finish("");
    Some(Elements {
        max_change: found.max_abs,
        max_value: found.scale,
        sqnr_db: found.sqnr_db,
        equal: found.equal,
        non_finite: found.non_finite,
    })
}
