//! Where the samples of a batch lie in a tensor.

use crate::ir::{Dim, Shape, Tensor};
use crate::ops::{AxisLink, AxisRef, InferCx};

/// The axis along which samples lie. Its length is `outer · batch · inner`: `outer` runs of whole
/// batches, in which each sample has `inner` elements beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub axis: usize,
    pub outer: Dim,
    pub inner: Dim,
}

const ONE: Dim = Dim::Known(1);

impl Place {
    /// An axis of its own.
    pub fn alone(axis: usize) -> Place {
        Place { axis, outer: ONE, inner: ONE }
    }

    /// The same on another axis.
    pub fn at(&self, axis: usize) -> Place {
        Place { axis, ..self.clone() }
    }

    /// The length of the axis.
    pub fn len(&self, batch: &Dim) -> Dim {
        &(&self.outer * batch) * &self.inner
    }

    /// The place after a reshape from `from` to `to`, both with `batch` samples. A reshape keeps the
    /// order of elements, so the samples lie in any axis of `to` that cuts the elements alike; where
    /// sizes of 1 leave a choice, an axis of their own wins, best the same; then one that is not
    /// the last, where features lie; then one that keeps whole samples beside each other.
    pub fn reshaped(&self, from: &[Dim], to: &[Dim], batch: &Dim) -> Option<Place> {
        let zero = |d: &Dim| *d == Dim::Known(0) || !d.is_some();
        if from.iter().chain(to).any(zero) || !Dim::product(from).same(&Dim::product(to)) {
            return None;
        }
        let before = &Dim::product(&from[..self.axis]) * &self.outer;
        let after = &self.inner * &Dim::product(&from[self.axis + 1..]);
        let fit = |axis: usize| {
            let outer = before.div_exact(&Dim::product(&to[..axis]))?;
            let inner = after.div_exact(&Dim::product(&to[axis + 1..]))?;
            let place = Place { axis, outer, inner };
            place.len(batch).same(&to[axis]).then_some(place)
        };
        let alone = |p: &Place| p.outer == ONE && p.inner == ONE;
        let last = |axis: usize, sizes: &[Dim]| axis + 1 == sizes.len();
        let rank = |p: &Place| {
            let among_features = last(p.axis, to) && !last(self.axis, from);
            (!alone(p), alone(p) && p.axis != self.axis, among_features, p.outer != ONE, p.axis)
        };
        (0..to.len()).filter_map(fit).min_by_key(rank)
    }
}

/// Links of operators whose schema does not say where samples go, or says it of channels only.
/// `sizes` are the shapes of operand 0 and result 0 before the batch was opened.
pub(super) fn own_links(cx: &InferCx, sizes: Option<(&Shape, &Shape)>) -> Option<Vec<AxisLink>> {
    use AxisRef::{Operand, Result};
    let op = cx.op();
    let mut refs = match op.op_type.as_str() {
        "LSTM" | "GRU" | "RNN" if op.int_or("layout", 0) == 0 => vec![
            Operand(0, 1),
            Operand(4, 0),
            Operand(5, 1),
            Operand(6, 1),
            Result(0, 2),
            Result(1, 1),
            Result(2, 1),
        ],
        // The weights may be anything that depends on no sample.
        "Conv" | "ConvTranspose" => vec![Operand(0, 0), Result(0, 0)],
        "GridSample" => vec![Operand(0, 0), Operand(1, 0), Result(0, 0)],
        "Attention" if cx.arity() <= 3 => {
            vec![Operand(0, 0), Operand(1, 0), Operand(2, 0), Result(0, 0)]
        }
        "Resize" | "Upsample" => return resize_links(cx, sizes?),
        _ => return None,
    };
    refs.retain(|r| match r {
        Operand(i, _) => cx.has(*i),
        Result(i, _) => cx.result(*i).is_some(),
    });
    Some(vec![AxisLink::Same(refs)])
}

/// Samples stay apart where their axis keeps its length for a reason: a scale of 1, or a size.
fn resize_links(cx: &InferCx, (before, after): (&Shape, &Shape)) -> Option<Vec<AxisLink>> {
    use AxisRef::{Operand, Result};
    if cx.op().attr("axes").is_some() || before.len() != after.len() {
        return None;
    }
    let slot = if cx.op().is("Upsample") || cx.opset() < 11 { 1 } else { 2 };
    let attr = cx.op().floats("scales").map(<[f32]>::to_vec);
    let scales = attr.or_else(|| cx.tensor(slot).and_then(Tensor::to_f32));
    let scales = scales.filter(|s| s.len() == before.len());
    let by_size = slot == 2 && cx.has(3);
    let keeps = |axis: &usize| match &scales {
        Some(scales) => scales[*axis].to_bits() == 1f32.to_bits(),
        None => by_size && before[*axis].same(&after[*axis]),
    };
    let rank = before.len();
    let same = |a| AxisLink::Same(vec![Operand(0, a), Result(0, a)]);
    let mut links: Vec<AxisLink> = (0..rank).filter(keeps).map(same).collect();
    if by_size {
        let of = (0..rank).map(|a| Result(0, a)).collect();
        links.push(AxisLink::Lengths { of, at: crate::ops::axes::Place::Operand(3) });
    }
    Some(links)
}

/// The link that says where an axis goes: what is one with it, and whether lengths of 1 broadcast.
pub(super) fn link_of(links: &[AxisLink], axis: AxisRef) -> Result<(&[AxisRef], bool), String> {
    let mut found = None;
    for link in links {
        match link {
            AxisLink::Same(refs) if refs.contains(&axis) => found = Some((&refs[..], false)),
            AxisLink::Broadcast(refs) if refs.contains(&axis) => found = Some((&refs[..], true)),
            AxisLink::Mixed(r) | AxisLink::Statistics(r, _) if *r == axis => {
                return Err("it mixes samples".to_owned());
            }
            AxisLink::Fixed(r, _) if *r == axis => {
                return Err("it picks, adds or reorders samples".to_owned());
            }
            AxisLink::Contract(a, b) if *a == axis || *b == axis => {
                return Err("it sums over samples".to_owned());
            }
            AxisLink::Map(a, b, _) if *a == axis || *b == axis => {
                return Err("it picks, adds or reorders samples".to_owned());
            }
            _ => {}
        }
    }
    found.ok_or_else(|| "it mixes samples, or its rule does not say where they go".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(axis: usize, outer: i64, inner: i64) -> Place {
        Place { axis, outer: outer.into(), inner: inner.into() }
    }

    fn after(p: &Place, from: &[i64], to: &[i64], batch: i64) -> Option<Place> {
        let dims = |s: &[i64]| s.iter().map(|n| Dim::Known(*n)).collect::<Vec<_>>();
        p.reshaped(&dims(from), &dims(to), &batch.into())
    }

    #[test]
    fn a_reshape_takes_the_samples_along() {
        let first = Place::alone(0);
        assert_eq!(after(&first, &[1, 3, 4], &[1, 12], 1), Some(place(0, 1, 1)));
        assert_eq!(after(&first, &[2, 3, 4], &[6, 4], 2), Some(place(0, 1, 3)));
        assert_eq!(after(&place(0, 1, 3), &[6, 4], &[2, 3, 2, 2], 2), Some(place(0, 1, 1)));
        assert_eq!(after(&Place::alone(1), &[3, 2, 4], &[6, 4], 2), Some(place(0, 3, 1)));
        assert_eq!(after(&Place::alone(1), &[197, 1, 768], &[197, 768], 1), Some(place(0, 197, 1)));
        let split = after(&Place::alone(1), &[197, 1, 768], &[197, 12, 64], 1);
        assert_eq!(split, Some(place(1, 1, 12)));
        assert_eq!(after(&first, &[1, 5], &[1, 1, 5], 1), Some(place(0, 1, 1)));
        assert_eq!(after(&first, &[2, 6], &[3, 4], 2), None);
    }

    #[test]
    fn other_sizes_may_be_open() {
        let (seq, known) = (Dim::symbol("seq"), |n: i64| Dim::Known(n));
        let wide = vec![known(2), seq.clone(), known(12)];
        let split = vec![known(2), seq.clone(), known(3), known(4)];
        let two = known(2);
        assert_eq!(Place::alone(0).reshaped(&wide, &split, &two), Some(Place::alone(0)));
        let flat = vec![&seq * &known(2), known(12)];
        let merged = Place { axis: 0, outer: ONE, inner: seq };
        assert_eq!(Place::alone(0).reshaped(&wide, &flat, &two), Some(merged));
    }
}
