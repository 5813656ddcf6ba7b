//! Which axis of an operand is which axis of a result: the operators' own rules, in one vocabulary.
//!
//! Pruning groups, layout moves and the per-channel axis of quantization read the rules; nobody
//! else knows how a channel travels through an operator. A rule says what it can prove. An axis
//! that no link of an op names stays as it is.

use std::borrow::Cow;

use super::InferCx;

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
    /// Index `i` of each listed axis is the same channel. Axes of size 1 beside longer ones
    /// broadcast and take no part. A single axis may change freely as far as this op goes.
    Same(Vec<AxisRef>),
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
    /// The axis is so many equal blocks laid end to end, and they stay equally long.
    Equal(AxisRef, usize),
    /// Index `i` of the first axis is index `j` of the second, for each pair `(i, j)`.
    Map(AxisRef, AxisRef, Vec<(u32, u32)>),
    /// Exactly one of these holds, whichever is chosen; the axes of the others stay as they are.
    Either(Vec<AxisLink>),
    /// Values along the axis influence each other: cutting changes what is left.
    Mixed(AxisRef),
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
