//! Which axis of an operand is which axis of a result: the operators' own rules, in one vocabulary.
//!
//! Pruning groups, layout moves and the per-channel axis of quantization read the rules; nobody
//! else knows how a channel travels through an operator. A rule says what it can prove. An axis
//! that no link of an op names stays as it is.

mod attention;
mod contract;
mod contrib;
mod layout;
mod norm;
mod recurrent;
mod reshape;
mod weight;

use std::borrow::Cow;

use super::{InferCx, OpSchema, normalize_axis};
use crate::ir::Dim;

pub use attention::attention;
pub use contract::{
    conv, conv_integer, conv_transpose, deform_conv, gemm, matmul, matmul_integer, qlinear_conv,
    qlinear_matmul,
};
pub use contrib::{
    embed_layer_norm, fused_conv, fused_matmul, group_query_attention, merged_attention,
    multi_head_attention, skip_layer_norm,
};
pub use layout::{
    concat, depth_to_space, expand, gather, pad, resize, shape, slice, space_to_depth, split, tile,
    transpose,
};
pub use norm::{
    along_axis, batch_norm, channels, group_norm, instance_norm, layer_norm, quantize, reduce,
    sampled_channels,
};
pub use recurrent::recurrent;
pub(crate) use reshape::{Segment, segments};
pub use weight::is_weight;

/// Longest axis whose indices are listed.
const MAX_PAIRS: usize = 1 << 22;

/// Why an op's axes cannot be followed.
pub type Refusal = Cow<'static, str>;

/// The links of one op, or why it has none.
pub type AxisRule = fn(&InferCx) -> Result<Vec<AxisLink>, Refusal>;

/// Which input axis is which output axis.
#[derive(Clone, Copy, Debug)]
pub enum Axes {
    /// Nothing is known: every axis stays as it is.
    Pinned,
    /// Operands broadcast to the results; an axis is the same axis everywhere, aligned from the
    /// right.
    Elementwise,
    /// The first result has the elements of the first operand in the same order, under other dims.
    Reshape,
    /// A rule of the operator's own.
    Rule(AxisRule),
}

/// One statement about the axes of an op's operands and results.
#[derive(Clone, Debug, PartialEq)]
pub enum AxisLink {
    /// Index `i` of each listed axis is the same channel; all have the same length. A single axis
    /// may change freely as far as this op goes.
    Same(Vec<AxisRef>),
    /// As `Same`, but axes of length 1 beside longer ones broadcast and take no part.
    Broadcast(Vec<AxisRef>),
    /// As `Same`, and the weight's slices along its axis are what computes the channels.
    Source {
        /// Axis of the weight.
        weight: AxisRef,
        /// Axis of the result that it makes.
        result: AxisRef,
    },
    /// The op multiplies along the two axes index by index and sums: what is cut from both leaves
    /// the rest of the sum as it was.
    Contract(AxisRef, AxisRef),
    /// As `Contract` or `Source`, in blocks: `axis` is `groups` equal blocks laid end to end, and
    /// index `j` of block `b` is index `j` of `part` in that part of the weight which is block `b`
    /// of its axis `rows`. All blocks of `axis` stay equally long.
    Blocked {
        /// Axis of an operand or result.
        axis: AxisRef,
        /// The shorter axis of the weight.
        part: AxisRef,
        /// The axis of the weight that the blocks divide.
        rows: usize,
        /// Number of blocks.
        groups: usize,
        /// The weight makes `axis`; else it meets it and sums.
        source: bool,
    },
    /// Slices of a weight along this axis are what computes the channels that other links tie to it.
    Made(AxisRef),
    /// The axis is so many equal blocks laid end to end, and they stay equally long.
    Equal(AxisRef, usize),
    /// The axis is so many equal blocks laid end to end, each of which stays or goes as a whole.
    Whole(AxisRef, usize),
    /// The integer attribute is the number of blocks on the axis.
    BlockCount(AxisRef, &'static str),
    /// Index `i` of the first axis is index `j` of the second, for each pair `(i, j)`.
    Map(AxisRef, AxisRef, Vec<(u32, u32)>),
    /// Exactly one of these holds, whichever is chosen; the axes of the others stay as they are.
    Either(Vec<AxisLink>),
    /// Values along the axis influence each other: cutting changes what is left.
    Mixed(AxisRef),
    /// So do they, but only through statistics of the values in each of so many equal blocks: those
    /// of a part of a block are about those of all of it, and blocks that go as a whole change nothing.
    Statistics(AxisRef, usize),
    /// The axis stays as it is, and why.
    Fixed(AxisRef, &'static str),
    /// Element `e` of an integer list of the op is the length of axis `of[e]`; 0 and −1 leave it
    /// open. A list that is absent means equal lengths.
    Lengths {
        /// The axes in the order of the list.
        of: Vec<AxisRef>,
        /// The list.
        at: Place,
    },
    /// Element `element` of an integer list of the op is a position between indices of the axis
    /// (negative: from the end; too large: the end).
    Bound {
        /// The axis.
        on: AxisRef,
        /// The list.
        at: Place,
        /// Which element.
        element: usize,
    },
    /// The constant vector in operand slot `slot` lists indices into axis `on`, one for each index
    /// of axis `result`.
    Indices {
        /// The axis that is indexed.
        on: AxisRef,
        /// Slot of the vector.
        slot: usize,
        /// The axis that results.
        result: AxisRef,
    },
    /// Element `.1` of the first result is the length of the axis.
    Measured(AxisRef, usize),
}

/// An integer list that an op carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this operand slot.
    Operand(usize),
    /// In this attribute; a single integer is a list of one.
    Attr(&'static str),
}

/// An axis of an operand or result: slot and axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AxisRef {
    /// Axis of the operand in this slot.
    Operand(usize, usize),
    /// Axis of the result in this slot.
    Result(usize, usize),
}

use AxisRef::{Operand, Result as Out};

/// What the schema says about the axes of an op.
///
/// # Errors
/// The reason why nothing is known; every axis then stays as it is.
pub fn links(schema: Option<&OpSchema>, cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    if !cx.op().bodies.is_empty() {
        return Err("the op has a body".into());
    }
    match schema.map(|s| s.axes) {
        None => Err("the operator is not known".into()),
        Some(Axes::Pinned) => Err("the operator has no axis rule".into()),
        Some(Axes::Elementwise) => elementwise(cx),
        Some(Axes::Reshape) => reshape::links(cx),
        Some(Axes::Rule(rule)) => rule(cx),
    }
}

/// Operands broadcast to each other and to the results.
fn elementwise(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = out_rank(cx)?;
    let mut links = vec![Vec::new(); rank];
    for j in (0..cx.op().result_count()).filter(|j| cx.result(*j).is_some()) {
        for (k, link) in links.iter_mut().enumerate() {
            link.push(Out(j, k));
        }
    }
    for i in (0..cx.arity()).filter(|i| cx.has(*i)) {
        let own = cx.rank(i).ok_or("the rank of an operand is not known")?;
        let shift = rank.checked_sub(own).ok_or("an operand has more axes than the result")?;
        for a in 0..own {
            links[shift + a].push(Operand(i, a));
        }
    }
    Ok(links.into_iter().map(AxisLink::Broadcast).collect())
}

/// Rank of operand `i`.
fn rank(cx: &InferCx, i: usize) -> Result<usize, Refusal> {
    cx.rank(i).ok_or_else(|| "the rank of an operand is not known".into())
}

/// Rank of the first result.
fn out_rank(cx: &InferCx) -> Result<usize, Refusal> {
    cx.result(0).and_then(|v| v.rank()).ok_or_else(|| "the rank of the result is not known".into())
}

/// Operand `i` is a weight: constant, or computed from constants alone.
fn has_weight(cx: &InferCx, i: usize) -> bool {
    cx.graph().operand(cx.id(), i).is_some_and(|v| is_weight(cx.graph(), v))
}

/// Length of an axis of operand `i`, when it is fixed.
fn len(cx: &InferCx, i: usize, axis: usize) -> Option<usize> {
    cx.shape(i)?.get(axis)?.size()
}

/// The integer attribute as an axis of something of rank `rank`.
fn axis_attr(cx: &InferCx, name: &str, default: i64, rank: usize) -> Result<usize, Refusal> {
    normalize_axis(cx.op().int_or(name, default), rank)
        .ok_or_else(|| "its axis is out of range".into())
}

/// Axes listed in attribute `axes` or, failing that, in operand `slot`; `None` when neither is there.
fn axes_list(cx: &InferCx, slot: usize, rank: usize) -> Result<Option<Vec<usize>>, Refusal> {
    let list = match cx.op().ints("axes") {
        Some(list) => list.to_vec(),
        None if !cx.has(slot) => return Ok(None),
        None => cx.known_ints(slot).ok_or("its axes are not constant")?,
    };
    let axes: Option<Vec<usize>> = list.iter().map(|&a| normalize_axis(a, rank)).collect();
    axes.map(Some).ok_or_else(|| "its axis is out of range".into())
}

/// Each axis of the first operand is the same axis of the first result, save those that `skip`
/// takes out.
fn carry(rank: usize, skip: impl Fn(usize) -> bool) -> Vec<AxisLink> {
    let same = |a| AxisLink::Same(vec![Operand(0, a), Out(0, a)]);
    (0..rank).filter(|a| !skip(*a)).map(same).collect()
}

/// Index `i` of the part is index `at + i` of the whole.
fn offset(part: AxisRef, whole: AxisRef, at: usize, len: usize) -> AxisLink {
    if at.saturating_add(len) > MAX_PAIRS {
        return AxisLink::Fixed(part, "the axis is too long");
    }
    let pairs = (0..len).map(|i| (i as u32, (at + i) as u32)).collect();
    AxisLink::Map(part, whole, pairs)
}

/// Both dims are the same known size or expression.
fn same_dim(a: Option<&Dim>, b: Option<&Dim>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.same(b))
}
