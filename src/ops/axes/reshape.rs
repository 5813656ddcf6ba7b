//! Operators that keep the order of the elements and change the dims: what is read off two shapes.

use std::ops::Range;

use super::AxisRef::{Operand, Result as Out};
use super::{AxisLink, InferCx, Place, Refusal};
use crate::ir::Dim;

/// Longest walk over the positions of a segment.
const MAX_WALK: usize = 1 << 20;

pub(super) fn links(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let from = cx.shape(0).ok_or("the shape of its operand is not known")?;
    let to = cx.result(0).and_then(|v| v.shape()).ok_or("the shape of its result is not known")?;
    let mut links = Vec::new();
    for (a, b) in segments(from, to) {
        segment(from, to, a, b, &mut links);
    }
    if cx.op().is("Reshape") {
        let of = (0..to.len()).map(|k| Out(0, k)).collect();
        let at = if cx.opset() >= 5 { Place::Operand(1) } else { Place::Attr("shape") };
        links.push(AxisLink::Lengths { of, at });
    }
    Ok(links)
}

/// A run of axes on one side and the run on the other.
pub(crate) type Segment = (Range<usize>, Range<usize>);

/// Runs of axes on both sides that hold the same number of elements, as short as possible.
pub(crate) fn segments(a: &[Dim], b: &[Dim]) -> Vec<Segment> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let Some((m, n)) = leading(&a[i..], &b[j..]) {
        out.push((i..i + m, j..j + n));
        (i, j) = (i + m, j + n);
    }
    let reverse = |d: &[Dim]| d.iter().rev().cloned().collect::<Vec<_>>();
    let (ra, rb) = (reverse(&a[i..]), reverse(&b[j..]));
    let (mut p, mut q) = (0, 0);
    while let Some((m, n)) = leading(&ra[p..], &rb[q..]) {
        out.push((a.len() - p - m..a.len() - p, b.len() - q - n..b.len() - q));
        (p, q) = (p + m, q + n);
    }
    out
}

/// The shortest non-empty prefixes of equal product; `None` when there are none or a size is not
/// known well enough.
fn leading(a: &[Dim], b: &[Dim]) -> Option<(usize, usize)> {
    let (mut m, mut n) = (1, 1);
    let (mut pa, mut pb) = (a.first()?.clone(), b.first()?.clone());
    loop {
        if pa.same(&pb) {
            return Some((m, n));
        }
        let grow_a = match (pa.known(), pb.known()) {
            (Some(x), Some(y)) => x < y,
            _ => pb.div_exact(&pa).is_some(),
        };
        if grow_a {
            pa = &pa * a.get(m)?;
            m += 1;
        } else {
            pb = &pb * b.get(n)?;
            n += 1;
        }
    }
}

/// Links within one segment: which axes on one side follow which on the other.
fn segment(from: &[Dim], to: &[Dim], a: Range<usize>, b: Range<usize>, links: &mut Vec<AxisLink>) {
    if a.len() == 1 && b.len() == 1 {
        links.push(AxisLink::Same(vec![Operand(0, a.start), Out(0, b.start)]));
        return;
    }
    let mut options = Vec::new();
    for (i, n, s) in inner_axes(&from[a.clone()]) {
        for (j, m, t) in inner_axes(&to[b.clone()]) {
            if let Some(pairs) = relation((n, s), (m, t)) {
                let (x, y) = (Operand(0, a.start + i), Out(0, b.start + j));
                options.push(AxisLink::Map(x, y, pairs));
            }
        }
    }
    match options.len() {
        0 => {}
        1 => links.append(&mut options),
        _ => links.push(AxisLink::Either(options)),
    }
}

/// Axes longer than 1 with length and stride, as far as these are known, in order.
fn inner_axes(dims: &[Dim]) -> Vec<(usize, usize, usize)> {
    let mut out = Vec::new();
    let mut stride = 1usize;
    for (axis, dim) in dims.iter().enumerate().rev() {
        let Some(n) = dim.size() else { break };
        let Some(next) = stride.checked_mul(n) else { break };
        if n > 1 {
            out.push((axis, n, stride));
        }
        stride = next;
    }
    out.reverse();
    out
}

/// Pairs of indices that meet in some element, for axes `(length, stride)`; `None` when all indices
/// hang together, so that nothing can be cut. The pattern repeats with the period of both, and the
/// number of elements is a multiple of that.
fn relation(a: (usize, usize), b: (usize, usize)) -> Option<Vec<(u32, u32)>> {
    let (p, q) = (a.0.checked_mul(a.1)?, b.0.checked_mul(b.1)?);
    if p == 0 || q == 0 {
        return None;
    }
    let (total, step) = ((p / gcd(p, q)).checked_mul(q)?, gcd(a.1, b.1));
    if total / step > MAX_WALK {
        return None;
    }
    let mut pairs: Vec<(u32, u32)> = (0..total)
        .step_by(step)
        .map(|p| ((p / a.1 % a.0) as u32, (p / b.1 % b.0) as u32))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    (components(a.0, b.0, &pairs) > 1).then_some(pairs)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn components(n: usize, m: usize, pairs: &[(u32, u32)]) -> usize {
    let mut parent: Vec<u32> = (0..(n + m) as u32).collect();
    fn root(parent: &mut [u32], mut x: u32) -> u32 {
        while parent[x as usize] != x {
            parent[x as usize] = parent[parent[x as usize] as usize];
            x = parent[x as usize];
        }
        x
    }
    let mut count = n + m;
    for &(i, j) in pairs {
        let (x, y) = (root(&mut parent, i), root(&mut parent, n as u32 + j));
        if x != y {
            parent[x.max(y) as usize] = x.min(y);
            count -= 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(d: &[i64]) -> Vec<Dim> {
        d.iter().map(|&n| Dim::Known(n)).collect()
    }

    #[test]
    fn segments_are_short() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let a = vec![n.clone(), Dim::Known(12), h.clone(), Dim::Known(7)];
        let b = vec![n, Dim::Known(3), Dim::Known(4), &h * &Dim::Known(7)];
        assert_eq!(segments(&a, &b), vec![(0..1, 0..1), (1..2, 1..3), (2..4, 3..4)]);
        assert_eq!(
            segments(&dims(&[2, 3, 1, 1]), &dims(&[2, 3])),
            vec![(0..1, 0..1), (1..2, 1..2)]
        );
    }

    #[test]
    fn merging_repeats_and_splitting_offers_both_factors() {
        let mut links = Vec::new();
        segment(&dims(&[2, 3]), &dims(&[6]), 0..2, 0..1, &mut links);
        let AxisLink::Either(options) = &links[0] else { panic!("{links:?}") };
        let pairs = vec![(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)];
        assert_eq!(options[0], AxisLink::Map(Operand(0, 0), Out(0, 0), pairs));
        let mut links = Vec::new();
        segment(&dims(&[6]), &dims(&[2, 3]), 0..1, 0..2, &mut links);
        assert!(matches!(&links[0], AxisLink::Either(o) if o.len() == 2));
        let n = Dim::symbol("N");
        let from = [n.clone(), Dim::Known(6)];
        let to = [&n * &Dim::Known(2), Dim::Known(3)];
        let mut links = Vec::new();
        segment(&from, &to, 0..2, 0..2, &mut links);
        let pairs = vec![(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)];
        assert_eq!(links, vec![AxisLink::Map(Operand(0, 1), Out(0, 1), pairs)]);
        let mut links = Vec::new();
        segment(&dims(&[4, 1]), &dims(&[4]), 0..2, 0..1, &mut links);
        assert!(matches!(&links[0], AxisLink::Map(..)));
    }
}
