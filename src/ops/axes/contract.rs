//! Convolutions and matrix products.

use super::AxisRef::{Operand, Result as Out};
use super::{AxisLink, AxisRef, InferCx, Place, Refusal, has_weight, len, out_rank, rank};

const DYNAMIC: &str = "its weight is not constant";
const LENGTH: &str = "the number of channels is not known";

/// `Conv`: data, weight `[out, in / group, …]`, bias.
///
/// # Errors
/// When the weight is not constant or does not fit.
pub fn conv(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    convolution(cx, 1, Some(2))
}

/// `DeformConv`: as `Conv`, with offsets in slot 2, a bias in slot 3 and factors in slot 4. Each group of
/// offsets keeps equally many channels.
///
/// # Errors
/// When the weight is not constant or does not fit.
pub fn deform_conv(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = convolution(cx, 1, Some(3))?;
    match usize::try_from(cx.op().int_or("offset_group", 1)) {
        Ok(1) => {}
        Ok(groups) if groups > 1 => links.push(AxisLink::Equal(Operand(0, 1), groups)),
        _ => return Err("its number of offset groups is out of range".into()),
    }
    Ok(links)
}

/// `ConvInteger`: data, weight, and their zero points.
///
/// # Errors
/// When the weight is not constant or does not fit.
pub fn conv_integer(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = convolution(cx, 1, None)?;
    links.extend(vector(cx, 3, Out(0, 1)));
    Ok(links)
}

/// `QLinearConv`: data, weight in slot 3, each followed by scale and zero point, those of the result,
/// bias.
///
/// # Errors
/// When the weight is not constant or does not fit.
pub fn qlinear_conv(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = convolution(cx, 3, Some(8))?;
    links.extend([4, 5].into_iter().filter_map(|slot| vector(cx, slot, Out(0, 1))));
    Ok(links)
}

/// The elements of a vector belong to the indices of an axis.
fn vector(cx: &InferCx, slot: usize, axis: AxisRef) -> Option<AxisLink> {
    (cx.rank(slot) == Some(1)).then(|| AxisLink::Broadcast(vec![Operand(slot, 0), axis]))
}

/// `ConvTranspose`: data, weight `[in, out / group, …]`, bias.
///
/// # Errors
/// When the weight is not constant or does not fit.
pub fn conv_transpose(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let weight = sizes(cx, 1)?;
    let groups = groups(cx)?;
    let channels = len(cx, 0, 1).ok_or(LENGTH)?;
    let &[_, columns, ..] = &weight[..] else { return Err("its weight has no channels".into()) };
    let mut links = vec![batch()];
    links.extend(bias(cx, 2));
    match (groups, columns) {
        (1, _) => links.extend([
            AxisLink::Contract(Operand(0, 1), Operand(1, 0)),
            AxisLink::Source { weight: Operand(1, 1), result: Out(0, 1) },
        ]),
        (g, m) if g == channels => {
            links.extend(depthwise(channels, channels.saturating_mul(m)));
            links.push(AxisLink::Source { weight: Operand(1, 0), result: Operand(0, 1) });
        }
        (g, _) => links.extend([
            AxisLink::Contract(Operand(0, 1), Operand(1, 0)),
            AxisLink::Equal(Operand(0, 1), g),
            AxisLink::Blocked {
                axis: Out(0, 1),
                part: Operand(1, 1),
                rows: 0,
                groups: g,
                source: true,
            },
        ]),
    }
    Ok(links)
}

fn convolution(cx: &InferCx, w: usize, b: Option<usize>) -> Result<Vec<AxisLink>, Refusal> {
    let weight = sizes(cx, w)?;
    let groups = groups(cx)?;
    let channels = len(cx, 0, 1).ok_or(LENGTH)?;
    let &[rows, columns, ..] = &weight[..] else { return Err("its weight has no channels".into()) };
    let mut links = vec![batch()];
    links.extend(b.and_then(|b| bias(cx, b)));
    links.push(AxisLink::Source { weight: Operand(w, 0), result: Out(0, 1) });
    match groups {
        1 => links.push(AxisLink::Contract(Operand(0, 1), Operand(w, 1))),
        g if g == channels && columns == 1 => links.extend(depthwise(channels, rows)),
        g => links.extend([
            AxisLink::Equal(Out(0, 1), g),
            AxisLink::Blocked {
                axis: Operand(0, 1),
                part: Operand(w, 1),
                rows: 0,
                groups: g,
                source: false,
            },
        ]),
    }
    Ok(links)
}

/// Sizes of the weight in slot `w`.
fn sizes(cx: &InferCx, w: usize) -> Result<Vec<usize>, Refusal> {
    let shape = cx.shape(w).filter(|_| has_weight(cx, w)).ok_or(DYNAMIC)?;
    shape.iter().map(|d| d.size()).collect::<Option<_>>().ok_or_else(|| DYNAMIC.into())
}

fn groups(cx: &InferCx) -> Result<usize, Refusal> {
    let groups = usize::try_from(cx.op().int_or("group", 1)).ok().filter(|g| *g > 0);
    groups.ok_or_else(|| "its number of groups is out of range".into())
}

fn batch() -> AxisLink {
    AxisLink::Same(vec![Operand(0, 0), Out(0, 0)])
}

fn bias(cx: &InferCx, slot: usize) -> Option<AxisLink> {
    cx.has(slot).then(|| AxisLink::Same(vec![Operand(slot, 0), Out(0, 1)]))
}

/// Each channel has the same number of the `results` to itself.
fn depthwise(channels: usize, results: usize) -> [AxisLink; 2] {
    let each = results / channels.max(1);
    let carry = match each {
        _ if !results.is_multiple_of(channels.max(1)) => AxisLink::Equal(Out(0, 1), channels),
        0 | 1 => AxisLink::Same(vec![Operand(0, 1), Out(0, 1)]),
        _ if results > super::MAX_PAIRS => AxisLink::Fixed(Operand(0, 1), "the axis is too long"),
        _ => {
            let pairs = (0..results).map(|o| ((o / each) as u32, o as u32)).collect();
            AxisLink::Map(Operand(0, 1), Out(0, 1), pairs)
        }
    };
    [carry, AxisLink::Lengths { of: vec![Operand(0, 1)], at: Place::Attr("group") }]
}

/// `Gemm`: A, B and a C that broadcasts.
///
/// # Errors
/// When a rank is not known.
pub fn gemm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let flip = |name| usize::from(cx.op().int_or(name, 0) != 0);
    let (ta, tb) = (flip("transA"), flip("transB"));
    let a = |axis: usize| Operand(0, axis ^ ta);
    let b = |axis: usize| Operand(1, axis ^ tb);
    let mut links = vec![AxisLink::Contract(a(1), b(0))];
    links.push(made(cx, 0, a(0), Out(0, 0)));
    links.push(made(cx, 1, b(1), Out(0, 1)));
    if cx.has(2) {
        let rank = rank(cx, 2)?;
        for axis in 0..rank.min(2) {
            links.push(AxisLink::Broadcast(vec![Operand(2, axis), Out(0, axis + 2 - rank.min(2))]));
        }
    }
    Ok(links)
}

/// `MatMul` as of numpy: 1-D operands and broadcast batch axes included.
///
/// # Errors
/// When a rank is not known.
pub fn matmul(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    product(cx, 1)
}

/// `MatMulInteger`: the factors and their zero points.
///
/// # Errors
/// When a rank is not known.
pub fn matmul_integer(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = product(cx, 1)?;
    let rank = out_rank(cx)?;
    links.extend(rank.checked_sub(2).and_then(|axis| vector(cx, 2, Out(0, axis))));
    links.extend(rank.checked_sub(1).and_then(|axis| vector(cx, 3, Out(0, axis))));
    Ok(links)
}

/// `QLinearMatMul`: the factors in slots 0 and 3, each followed by scale and zero point, those of the
/// result.
///
/// # Errors
/// When a rank is not known or something is quantized along rows.
pub fn qlinear_matmul(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = product(cx, 3)?;
    let single = |slot: usize| cx.rank(slot) == Some(0) || len(cx, slot, 0) == Some(1);
    if ![1, 2, 6, 7].into_iter().all(single) {
        return Err("its rows have scales of their own".into());
    }
    let last = out_rank(cx)?.checked_sub(1).ok_or("the ranks do not fit")?;
    links.extend([4, 5].into_iter().filter_map(|slot| vector(cx, slot, Out(0, last))));
    Ok(links)
}

/// A matrix product whose second factor is in slot `b`.
fn product(cx: &InferCx, b: usize) -> Result<Vec<AxisLink>, Refusal> {
    let (ra, rb, out) = (rank(cx, 0)?, rank(cx, b)?, out_rank(cx)?);
    if ra == 0 || rb == 0 {
        return Err("an operand has no axes".into());
    }
    let inner = Operand(b, rb.saturating_sub(2));
    let mut links = vec![AxisLink::Contract(Operand(0, ra - 1), inner)];
    let columns = usize::from(rb > 1);
    if ra > 1 {
        let axis = out.checked_sub(1 + columns).ok_or("the ranks do not fit")?;
        links.push(made(cx, 0, Operand(0, ra - 2), Out(0, axis)));
    }
    if rb > 1 {
        let axis = out.checked_sub(1).ok_or("the ranks do not fit")?;
        links.push(made(cx, b, Operand(b, rb - 1), Out(0, axis)));
    }
    let matrix = usize::from(ra > 1) + columns;
    for k in 0..out.saturating_sub(matrix) {
        let mut refs = vec![Out(0, k)];
        for (slot, r) in [(0, ra), (b, rb)] {
            if r > 2 && (k + r).checked_sub(out).is_some_and(|a| a < r - 2) {
                refs.push(Operand(slot, k + r - out));
            }
        }
        links.push(AxisLink::Broadcast(refs));
    }
    Ok(links)
}

/// The operand's axis becomes the result's: computed by it, when the operand is a weight.
fn made(cx: &InferCx, slot: usize, operand: AxisRef, result: AxisRef) -> AxisLink {
    match has_weight(cx, slot) {
        true => AxisLink::Source { weight: operand, result },
        false => AxisLink::Same(vec![operand, result]),
    }
}
