//! Cutting: weights, biases and other constants, and types.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::edits::Edits;
use super::groups::{Class, Groups};
use super::lanes::{Lane, LaneId, Part, Reader};
use super::trace::place;
use super::{Order, PruneError};
use crate::ir::{Dim, Graph, OpId, Slot, Tensor, Type, ValueId};
use crate::ops::axes::AxisRef;

/// What stays of one axis of a tensor.
#[derive(Clone, Debug, PartialEq)]
struct Cut {
    axis: usize,
    part: Option<Part>,
    keep: Vec<u32>,
}

/// Takes the classes marked in `gone` out of the graph.
///
/// # Errors
/// When something does not fit afterwards: a bug, since groups are checked before.
pub(super) fn cut(
    g: &mut Graph,
    opset: i64,
    groups: &Groups,
    gone: &[bool],
) -> Result<(), PruneError> {
    let keeps = Keeps::of(groups, gone);
    let edits = Edits::plan(g, opset, groups, &keeps);
    cut_constants(g, &keeps.constants(g, groups))?;
    edits.apply(g);
    for (lane, keep) in keeps.iter() {
        let lane = groups.lanes.get(lane);
        if !g.has_value(lane.value) || g.const_tensor(lane.value).is_some() {
            continue;
        }
        let ty = g.facts_mut(lane.value).ty.as_mut().and_then(Type::as_tensor_mut);
        if let Some(dim) = ty.and_then(|t| t.shape.as_mut()?.get_mut(lane.axis)) {
            *dim = Dim::from(keep.len());
        }
    }
    Ok(())
}

/// Puts the classes into another order. Of each class, the atoms on a lane go to the places of the
/// atoms of the class that it takes the place of, in turn.
///
/// # Errors
/// When a constant cannot be reordered; nothing is changed then.
pub(super) fn reorder(g: &mut Graph, groups: &Groups, order: &Order) -> Result<(), PruneError> {
    let mut keeps = BTreeMap::new();
    for lane in groups.lanes.ids() {
        let classes = groups.classes(lane);
        if classes.iter().all(|c| order.at(*c) == *c) {
            continue;
        }
        let mut places: BTreeMap<Class, Vec<u32>> = BTreeMap::new();
        for (i, class) in (0u32..).zip(classes) {
            places.entry(*class).or_default().push(i);
        }
        let mut turn: BTreeMap<Class, usize> = BTreeMap::new();
        let mut from = |class: &Class| {
            let turn = turn.entry(*class).or_default();
            *turn += 1;
            places.get(&order.at(*class))?.get(*turn - 1).copied()
        };
        let keep: Option<Vec<u32>> = classes.iter().map(&mut from).collect();
        let name = || g.value(groups.lanes.get(lane).value).name().to_owned();
        keeps.insert(lane, keep.ok_or_else(|| PruneError::Cut { name: name() })?);
    }
    let constants = Keeps(keeps).constants(g, groups);
    cut_constants(g, &constants)
}

/// For each lane that loses atoms, the indices that stay.
pub(super) struct Keeps(BTreeMap<LaneId, Vec<u32>>);

impl Keeps {
    pub fn of(groups: &Groups, gone: &[bool]) -> Keeps {
        let mut out = BTreeMap::new();
        for lane in groups.lanes.ids() {
            let classes = groups.classes(lane);
            let keep: Vec<u32> = (0u32..)
                .zip(classes)
                .filter(|(_, c)| !gone[**c as usize])
                .map(|(i, _)| i)
                .collect();
            if keep.len() < classes.len() {
                out.insert(lane, keep);
            }
        }
        Keeps(out)
    }

    pub fn iter(&self) -> impl Iterator<Item = (LaneId, &Vec<u32>)> {
        self.0.iter().map(|(lane, keep)| (*lane, keep))
    }

    /// What stays of an axis of an op's operand or result, if anything goes.
    pub fn at(&self, g: &Graph, groups: &Groups, op: OpId, axis: AxisRef) -> Option<&Vec<u32>> {
        let (value, axis, reader) = place(g, op, axis)?;
        self.0.get(&groups.lanes.find(g, value, axis, reader)?)
    }

    /// Constants to cut: for each, the lanes with what stays, in the order of the lanes.
    fn constants(&self, g: &Graph, groups: &Groups) -> BTreeMap<ValueId, Vec<(Lane, Cut)>> {
        let mut out: BTreeMap<ValueId, Vec<(Lane, Cut)>> = BTreeMap::new();
        for (id, keep) in self.iter() {
            let lane = groups.lanes.get(id);
            if g.const_tensor(lane.value).is_some() {
                let cut = Cut { axis: lane.axis, part: lane.part, keep: keep.clone() };
                out.entry(lane.value).or_default().push((lane.clone(), cut));
            }
        }
        out
    }
}

/// The ways in which the readers of a constant want it cut, each with those readers. The first way
/// is the one that keeps the name.
fn ways(g: &Graph, value: ValueId, cuts: &[(Lane, Cut)]) -> Vec<(Vec<Cut>, Vec<Reader>)> {
    let mut ways: Vec<(Vec<Cut>, Vec<Reader>)> = Vec::new();
    let uses = g.uses(value);
    if g.is_output(value) || uses.iter().any(|u| !matches!(u.1, Slot::Operand(_))) {
        ways.push((Vec::new(), Vec::new()));
    }
    for (op, slot) in uses {
        let Slot::Operand(slot) = slot else { continue };
        let at = (op, slot as usize);
        let mine = cuts.iter().filter(|(lane, _)| lane.reader.is_none_or(|r| r == at));
        let way: Vec<Cut> = mine.map(|(_, cut)| cut.clone()).collect();
        match ways.iter_mut().find(|(w, _)| *w == way) {
            Some((_, readers)) => readers.push(at),
            None => ways.push((way, vec![at])),
        }
    }
    ways
}

/// A constant in one of the forms that its readers want.
struct Piece {
    value: ValueId,
    /// It keeps the name.
    first: bool,
    way: Vec<Cut>,
    readers: Vec<Reader>,
}

/// Cuts constants, each once for each way in which its readers want it.
fn cut_constants(
    g: &mut Graph,
    constants: &BTreeMap<ValueId, Vec<(Lane, Cut)>>,
) -> Result<(), PruneError> {
    let mut pieces = Vec::new();
    for (&value, cuts) in constants {
        for (k, (way, readers)) in ways(g, value, cuts).into_iter().enumerate() {
            pieces.push(Piece { value, first: k == 0, way, readers });
        }
    }
    let graph = &*g;
    let cut = |p: &Piece| {
        let name = || graph.value(p.value).name().to_owned();
        let data = graph.const_tensor(p.value).and_then(|t| cut_tensor(t, &p.way));
        data.ok_or_else(|| PruneError::Cut { name: name() })
    };
    let tensors: Vec<Tensor> = pieces.par_iter().map(cut).collect::<Result<_, _>>()?;
    for (piece, data) in pieces.into_iter().zip(tensors) {
        if piece.first {
            if !piece.way.is_empty() {
                g.set_data(piece.value, data);
            }
            continue;
        }
        let name = g.value(piece.value).name().to_owned();
        let copy = g.add_const(&name, data);
        for (op, slot) in piece.readers {
            g.set_operand(op, slot, Some(copy));
        }
    }
    Ok(())
}

fn cut_tensor(t: &Tensor, cuts: &[Cut]) -> Option<Tensor> {
    let whole: Vec<&Cut> = cuts.iter().filter(|c| c.part.is_none()).collect();
    let once = |k: usize| whole[..k].iter().all(|c| c.axis != whole[k].axis);
    let t = if (0..whole.len()).all(once) {
        let keeps: Vec<(usize, &[u32])> = whole.iter().map(|c| (c.axis, &c.keep[..])).collect();
        select(t, &keeps)?
    } else {
        whole.iter().try_fold(t.clone(), |t, c| select(&t, &[(c.axis, &c.keep)]))?
    };
    let mut parts = cuts.iter().filter_map(|c| Some((c, c.part?)));
    parts.try_fold(t, |t, (c, part)| select_part(&t, c.axis, part, &c.keep))
}

/// The part of `t` with these indices along these axes, of which none is listed twice.
fn select(t: &Tensor, keeps: &[(usize, &[u32])]) -> Option<Tensor> {
    let raw = t.raw()?;
    let width = t.dtype().bits() / 8;
    let mut dims = t.dims().to_vec();
    for (axis, keep) in keeps {
        let n = dims.get_mut(*axis)?;
        if keep.iter().any(|k| *k as usize >= *n) {
            return None;
        }
        *n = keep.len();
    }
    if width == 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(dims.iter().product::<usize>() * width);
    let mut keeps = keeps.to_vec();
    keeps.sort_unstable();
    take(raw, t.dims(), width, 0, &keeps, &mut bytes);
    Tensor::new(t.dtype(), dims, bytes.into()).ok()
}

/// Appends what stays of `raw`, which is what lies under one index of each axis before `first`. The
/// axes are in ascending order.
fn take(
    raw: &[u8],
    dims: &[usize],
    width: usize,
    first: usize,
    keeps: &[(usize, &[u32])],
    out: &mut Vec<u8>,
) {
    let [(axis, keep), rest @ ..] = keeps else { return out.extend_from_slice(raw) };
    let inner = dims[axis + 1..].iter().product::<usize>() * width;
    let n = dims[*axis];
    if n * inner == 0 {
        return;
    }
    debug_assert_eq!(raw.len(), dims[first..].iter().product::<usize>() * width);
    for row in raw.chunks_exact(n * inner) {
        match inner {
            _ if !rest.is_empty() => {
                for &k in *keep {
                    let at = k as usize * inner;
                    take(&row[at..at + inner], dims, width, axis + 1, rest, out);
                }
            }
            1 => gather::<1>(row, keep, out),
            2 => gather::<2>(row, keep, out),
            4 => gather::<4>(row, keep, out),
            8 => gather::<8>(row, keep, out),
            36 => gather::<36>(row, keep, out),
            _ => {
                for &k in *keep {
                    let at = k as usize * inner;
                    out.extend_from_slice(&row[at..at + inner]);
                }
            }
        }
    }
}

/// Appends the cells of `N` bytes with these indices in the row.
fn gather<const N: usize>(row: &[u8], keep: &[u32], out: &mut Vec<u8>) {
    let cells = row.as_chunks::<N>().0;
    out.extend(keep.iter().flat_map(|k| cells[*k as usize]));
}

/// In each block of axis `part.rows`, the slices along `axis` that the block keeps.
fn select_part(t: &Tensor, axis: usize, part: Part, keep: &[u32]) -> Option<Tensor> {
    let (rows, n) = (*t.dims().get(part.rows)?, *t.dims().get(axis)?);
    if !rows.is_multiple_of(part.groups)
        || !keep.len().is_multiple_of(part.groups)
        || part.rows != 0
    {
        return None;
    }
    let per_block = rows / part.groups;
    let mut bytes = Vec::new();
    let mut dims = Vec::new();
    for (b, keep) in keep.chunks(keep.len() / part.groups).enumerate() {
        let block: Vec<u32> = (b * per_block..(b + 1) * per_block).map(|r| r as u32).collect();
        let own: Option<Vec<u32>> =
            keep.iter().map(|k| k.checked_sub(u32::try_from(b * n).ok()?)).collect();
        let piece = select(t, &[(part.rows, &block), (axis, &own?)])?;
        bytes.extend_from_slice(piece.raw()?);
        dims = piece.dims().to_vec();
    }
    *dims.get_mut(part.rows)? = rows;
    Tensor::new(t.dtype(), dims, bytes.into()).ok()
}
