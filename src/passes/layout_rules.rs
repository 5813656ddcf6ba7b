//! How single operators carry a layout through: the table behind [`super::layout::moved`].

use super::layout::{Moved, Perm, Port};
use super::pattern::ints_at;
use std::ops::Range;

use crate::ir::{AttrValue, DType, Dim, Graph, OpId, Tensor, ValueId};
use crate::ops::axes::Segment;
use crate::ops::{Axes, normalize_axis};

/// An op in its graph.
pub(super) struct View<'a> {
    pub g: &'a Graph,
    pub op: OpId,
    pub opset: i64,
}

/// Where axis `axis` is stored.
fn place(perm: &[usize], axis: usize) -> Option<usize> {
    perm.iter().position(|&p| p == axis)
}

/// The layout of what is left without some axes.
fn without(perm: &[usize], dropped: &[usize]) -> Perm {
    let kept: Vec<usize> = (0..perm.len()).filter(|a| !dropped.contains(a)).collect();
    let at = |a: &usize| kept.iter().position(|k| k == a);
    perm.iter().filter_map(at).collect()
}

impl View<'_> {
    fn operand(&self, i: usize) -> Option<ValueId> {
        self.g.operand(self.op, i)
    }

    fn rank(&self, i: usize) -> Option<usize> {
        self.g.value(self.operand(i)?).rank()
    }

    fn out_rank(&self) -> Option<usize> {
        self.g.value(self.g.result(self.op, 0)?).rank()
    }

    fn attr_axis(&self, default: i64, rank: usize) -> Option<usize> {
        normalize_axis(self.g.op(self.op).int_or("axis", default), rank)
    }

    /// The op on stored operands, by the table of operators. Layouts may be identities, and slots
    /// may be missing at the end.
    pub(super) fn moved(&self, axes: Axes, port: Port, perm: &[usize]) -> Option<Moved> {
        let op_type = self.g.op(self.op).op_type.as_str();
        match op_type {
            "Softmax" | "LogSoftmax" | "Hardmax" if self.opset >= 13 => self.along(&[0], -1, perm),
            "LpNormalization" | "TopK" => self.along(&[0], -1, perm),
            "Split" => self.along(&[0], 0, perm),
            "GatherElements" => self.along(&[0, 1], 0, perm),
            "ScatterElements" => self.along(&[0, 1, 2], 0, perm),
            "Concat" if self.opset >= 4 => {
                let all: Vec<usize> = (0..self.g.op(self.op).arity()).collect();
                self.along(&all, 1, perm)
            }
            "CumSum" => self.cumulative(perm),
            "ArgMax" | "ArgMin" => self.arg_reduce(port, perm),
            _ if op_type.starts_with("Reduce") => self.reduce(port, perm),
            "Squeeze" => self.squeeze(port, perm),
            "Unsqueeze" => self.unsqueeze(port, perm),
            "Pad" if self.opset >= 2 => self.pad(perm),
            "Slice" => self.slice(perm),
            "Gather" => self.gather(port, perm),
            "Tile" if self.opset >= 6 => self.permuted_list(1, perm),
            "Expand" => self.permuted_list(1, perm),
            "QuantizeLinear" | "DequantizeLinear" => self.quantize(perm),
            "MatMul" => self.matmul(perm),
            "LayerNormalization" | "RMSNormalization" => self.layer_norm(perm),
            "Resize" => self.resize(perm),
            "Reshape" if self.opset >= 5 => self.reshape(port, perm),
            _ if matches!(axes, Axes::Elementwise) => self.elementwise(port, perm),
            _ => None,
        }
    }

    /// The same layout at these operands and all results, which have the same rank.
    fn everywhere(&self, data: &[usize], perm: &[usize]) -> Option<Moved> {
        let mut moved = Moved {
            operands: vec![None; self.g.op(self.op).arity()],
            results: vec![Some(perm.to_vec()); self.g.op(self.op).result_count()],
            ..Moved::default()
        };
        for &i in data {
            (self.rank(i)? == perm.len()).then_some(())?;
            *moved.operands.get_mut(i)? = Some(perm.to_vec());
        }
        Some(moved)
    }

    fn elementwise(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let node = self.g.op(self.op);
        let rank = self.out_rank()?;
        let plain = self.opset >= 7 && node.attr("axis").is_none() && node.result_count() == 1;
        let whole = match port {
            Port::Operand(i) => self.rank(i)? == rank,
            Port::Result(_) => true,
        };
        (plain && whole && rank == perm.len()).then_some(())?;
        let mut moved = self.everywhere(&[], perm)?;
        for i in 0..node.arity() {
            let Some(v) = self.operand(i) else { continue };
            let own = self.rank(i)?;
            let shift = rank.checked_sub(own)?;
            moved.operands[i] = match self.g.const_tensor(v) {
                Some(t) if t.len() == 1 || (shift..rank).all(|i| perm[i] == i) => None,
                Some(_) => Some(perm.to_vec()),
                // The axes that it has stay among themselves.
                None if perm[shift..].iter().all(|&p| p >= shift) => {
                    Some(perm[shift..].iter().map(|&p| p - shift).collect())
                }
                None => return None,
            };
        }
        Some(moved)
    }

    /// Works along one axis, that an attribute names, and keeps the rank.
    fn along(&self, data: &[usize], default: i64, perm: &[usize]) -> Option<Moved> {
        let axis = place(perm, self.attr_axis(default, perm.len())?)?;
        let mut moved = self.everywhere(data, perm)?;
        moved.attrs.push(("axis", AttrValue::Int(axis as i64)));
        Some(moved)
    }

    fn cumulative(&self, perm: &[usize]) -> Option<Moved> {
        let axis = super::pattern::known_ints(self.g, self.operand(1)?)?;
        let axis = place(perm, normalize_axis(*axis.first()?, perm.len())?)?;
        let mut moved = self.everywhere(&[0], perm)?;
        moved.constants.push((1, Tensor::scalar(axis as i64)));
        Some(moved)
    }

    fn arg_reduce(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let rank = self.rank(0)?;
        let keeps = self.g.op(self.op).int_or("keepdims", 1) != 0;
        (rank == perm.len() && (keeps || port == Port::Operand(0))).then_some(())?;
        let axis = self.attr_axis(0, rank)?;
        let mut moved = self.everywhere(&[0], perm)?;
        if !keeps {
            moved.results = vec![Some(without(perm, &[axis]))];
        }
        moved.attrs.push(("axis", AttrValue::Int(place(perm, axis)? as i64)));
        Some(moved)
    }

    /// The axes that the op names, counted from the front; `None` when it names none.
    fn named_axes(&self, rank: usize) -> Option<Vec<usize>> {
        let axes = ints_at(self.g, self.op, "axes", 1).ok()??;
        super::pattern::sorted_axes(&axes, rank).filter(|a| !a.is_empty())
    }

    /// Names other axes, where the op named its own.
    fn rename_axes(&self, moved: &mut Moved, mut axes: Vec<usize>) {
        axes.sort_unstable();
        let axes: Vec<i64> = axes.into_iter().map(|a| a as i64).collect();
        match self.g.op(self.op).attr("axes") {
            Some(_) => moved.attrs.push(("axes", AttrValue::Ints(axes))),
            None => moved.constants.push((1, Tensor::vector(&axes))),
        }
    }

    fn reduce(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let rank = self.rank(0)?;
        let keeps = self.g.op(self.op).int_or("keepdims", 1) != 0;
        (rank == perm.len() && (keeps || port == Port::Operand(0))).then_some(())?;
        let axes = self.named_axes(rank)?;
        let mut moved = self.everywhere(&[0], perm)?;
        if !keeps {
            moved.results = vec![Some(without(perm, &axes))];
        }
        let places = axes.iter().map(|&a| place(perm, a)).collect::<Option<Vec<_>>>()?;
        self.rename_axes(&mut moved, places);
        Some(moved)
    }

    fn squeeze(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        (port == Port::Operand(0) && self.rank(0)? == perm.len()).then_some(())?;
        let axes = self.named_axes(perm.len())?;
        let mut moved = self.everywhere(&[0], perm)?;
        moved.results = vec![Some(without(perm, &axes))];
        let places = axes.iter().map(|&a| place(perm, a)).collect::<Option<Vec<_>>>()?;
        self.rename_axes(&mut moved, places);
        Some(moved)
    }

    /// New axes stand where they stood, unless the layout of the result says otherwise.
    fn unsqueeze(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let rank = self.out_rank()?;
        let axes = self.named_axes(rank)?;
        let out = match port {
            Port::Result(_) => perm.to_vec(),
            Port::Operand(_) => {
                let others: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
                (others.len() == perm.len()).then_some(())?;
                let mut rest = perm.iter().map(|&p| others[p]);
                let layout =
                    (0..rank).map(|i| if axes.contains(&i) { Some(i) } else { rest.next() });
                layout.collect::<Option<Perm>>()?
            }
        };
        (out.len() == rank).then_some(())?;
        let places = axes.iter().map(|&a| place(&out, a)).collect::<Option<Vec<_>>>()?;
        let mut moved = Moved {
            operands: vec![Some(without(&out, &axes))],
            results: vec![Some(out)],
            ..Moved::default()
        };
        self.rename_axes(&mut moved, places);
        Some(moved)
    }

    fn pad(&self, perm: &[usize]) -> Option<Moved> {
        let pads = ints_at(self.g, self.op, "pads", 1).ok()??;
        let rank = perm.len();
        let mut moved = self.everywhere(&[0], perm)?;
        if self.operand(3).is_some() {
            let axes = super::pattern::known_ints(self.g, self.operand(3)?)?;
            let axes = axes.iter().map(|&a| place(perm, normalize_axis(a, rank)?));
            let axes = axes.map(|a| Some(a? as i64)).collect::<Option<Vec<i64>>>()?;
            moved.constants.push((3, Tensor::vector(&axes)));
            return Some(moved);
        }
        (pads.len() == 2 * rank).then_some(())?;
        let ends = perm.iter().map(|&p| pads[rank + p]);
        let pads: Vec<i64> = perm.iter().map(|&p| pads[p]).chain(ends).collect();
        match self.g.op(self.op).attr("pads") {
            Some(_) => moved.attrs.push(("pads", AttrValue::Ints(pads))),
            None => moved.constants.push((1, Tensor::vector(&pads))),
        }
        Some(moved)
    }

    fn slice(&self, perm: &[usize]) -> Option<Moved> {
        let by_attr = self.opset < 10;
        let count = match by_attr {
            true => self.g.op(self.op).ints("starts")?.len(),
            false => self.g.value(self.operand(1)?).shape()?.first()?.size()?,
        };
        let axes = match ints_at(self.g, self.op, "axes", if by_attr { usize::MAX } else { 3 }) {
            Ok(Some(axes)) => axes,
            Ok(None) => (0..count as i64).collect(),
            Err(_) => return None,
        };
        let axes = axes.iter().map(|&a| place(perm, normalize_axis(a, perm.len())?));
        let axes = axes.map(|a| Some(a? as i64)).collect::<Option<Vec<i64>>>()?;
        let mut moved = self.everywhere(&[0], perm)?;
        if by_attr {
            moved.attrs.push(("axes", AttrValue::Ints(axes)));
            return Some(moved);
        }
        let axes = match self.g.value(self.operand(1)?).dtype()? {
            DType::I32 => Tensor::vector(&axes.iter().map(|&a| a as i32).collect::<Vec<i32>>()),
            _ => Tensor::vector(&axes),
        };
        moved.constants.push((3, axes));
        Some(moved)
    }

    fn gather(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let (rank, indices) = (self.rank(0)?, self.rank(1)?);
        let known = match port {
            Port::Operand(i) => i == 0,
            Port::Result(_) => indices == 1,
        };
        (known && perm.len() == rank).then_some(())?;
        let axis = self.attr_axis(0, rank)?;
        let out = perm.iter().flat_map(|&p| match p {
            p if p == axis => axis..axis + indices,
            p if p < axis => p..p + 1,
            p => p + indices - 1..p + indices,
        });
        let mut moved = self.everywhere(&[], perm)?;
        moved.operands[0] = Some(perm.to_vec());
        moved.results = vec![Some(out.collect())];
        moved.attrs.push(("axis", AttrValue::Int(place(perm, axis)? as i64)));
        Some(moved)
    }

    /// Operand `slot` lists one number for each axis.
    fn permuted_list(&self, slot: usize, perm: &[usize]) -> Option<Moved> {
        let list = super::pattern::known_ints(self.g, self.operand(slot)?)?;
        (list.len() == perm.len()).then_some(())?;
        let list: Vec<i64> = perm.iter().map(|&p| list[p]).collect();
        let mut moved = self.everywhere(&[0], perm)?;
        moved.constants.push((slot, Tensor::vector(&list)));
        Some(moved)
    }

    fn quantize(&self, perm: &[usize]) -> Option<Moved> {
        let scale = self.g.value(self.operand(1)?);
        (self.g.op(self.op).int_or("block_size", 0) == 0 && scale.rank()? <= 1).then_some(())?;
        let single = scale.shape()?.iter().all(|d| d.known() == Some(1));
        if single { self.everywhere(&[0], perm) } else { self.along(&[0], 1, perm) }
    }

    /// Rows keep their place among themselves, or whole matrices do.
    fn matmul(&self, perm: &[usize]) -> Option<Moved> {
        let (a, b, rank) = (self.rank(0)?, self.rank(1)?, perm.len());
        let stays = |n: usize| (rank - n..rank).all(|i| perm[i] == i);
        match (a == rank, b) {
            (true, 2) if stays(1) => self.everywhere(&[0], perm),
            (true, b) if b == rank && stays(2) => self.everywhere(&[0, 1], perm),
            _ => None,
        }
    }

    fn layer_norm(&self, perm: &[usize]) -> Option<Moved> {
        let rank = perm.len();
        let axis = self.attr_axis(-1, rank)?;
        let own = |i: usize| match self.operand(i) {
            None => Some(true),
            Some(_) => Some(self.rank(i)? <= rank - axis),
        };
        let fits = own(1)? && own(2)? && (axis..rank).all(|i| perm[i] == i);
        (fits && self.g.op(self.op).result_count() == 1).then_some(())?;
        let mut moved = self.everywhere(&[0], perm)?;
        moved.attrs.push(("axis", AttrValue::Int(axis as i64)));
        Some(moved)
    }

    /// Only towards a layout that runtimes know: what is resampled stands last, after two others.
    fn resize(&self, perm: &[usize]) -> Option<Moved> {
        let node = self.g.op(self.op);
        let crops = node.str("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        let (x, y) = (self.g.value(self.operand(0)?), self.g.value(self.g.result(self.op, 0)?));
        let (from, to) = (x.shape()?, y.shape()?);
        let plain = self.opset >= 11 && !crops && node.attr("axes").is_none();
        (plain && perm.len() == 4 && from.len() == 4 && to.len() == 4).then_some(())?;
        let keeps = |i: usize| from[perm[i]].same(&to[perm[i]]);
        (keeps(0) && keeps(1)).then_some(())?;
        let mut moved = self.everywhere(&[0], perm)?;
        for slot in [2, 3] {
            let Some(v) = self.operand(slot) else { continue };
            let t = self.g.const_tensor(v)?;
            if !t.is_empty() {
                (t.dims() == [4]).then_some(())?;
                moved.constants.push((slot, reordered(t, perm)?));
            }
        }
        Some(moved)
    }
}

impl View<'_> {
    /// Groups of axes that a Reshape splits or joins move as a whole.
    fn reshape(&self, port: Port, perm: &[usize]) -> Option<Moved> {
        let y = self.g.result(self.op, 0)?;
        let (from, to) = (self.g.value(self.operand(0)?).shape()?, self.g.value(y).shape()?);
        let known = super::pattern::known_ints(self.g, self.operand(1)?).is_some();
        (known && self.g.op(self.op).int_or("allowzero", 0) == 0).then_some(())?;
        let mut runs = crate::ops::axes::segments(from, to);
        runs.sort_by_key(|(a, _)| a.start);
        let covers = |n: usize, range: &dyn Fn(&Segment) -> Range<usize>| {
            let starts =
                runs.iter().map(range).try_fold(0, |at, r| (r.start == at).then_some(r.end));
            starts == Some(n)
        };
        (covers(from.len(), &|s| s.0.clone()) && covers(to.len(), &|s| s.1.clone()))
            .then_some(())?;
        let (mut before, mut after) = (Perm::new(), Perm::new());
        let (mut at, from_operand) = (0, port == Port::Operand(0));
        while at < perm.len() {
            let own = |s: &&Segment| if from_operand { s.0.start } else { s.1.start } == perm[at];
            let (a, b) = runs.iter().find(own)?;
            before.extend(a.clone());
            after.extend(b.clone());
            at = if from_operand { before.len() } else { after.len() };
        }
        let (from, to): (Vec<Dim>, Vec<Dim>) = (
            before.iter().map(|&a| from[a].clone()).collect(),
            after.iter().map(|&b| to[b].clone()).collect(),
        );
        let sizes = super::reshape::target(Some(&from), &to).ok()?;
        Some(Moved {
            operands: vec![Some(before)],
            results: vec![Some(after)],
            constants: vec![(1, Tensor::vector(&sizes))],
            ..Moved::default()
        })
    }
}

/// The vector with its elements in the order of the stored axes.
fn reordered(t: &Tensor, perm: &[usize]) -> Option<Tensor> {
    match t.dtype().is_int() {
        true => {
            let v = t.to_vec::<i64>()?;
            Some(Tensor::vector(&perm.iter().map(|&p| v[p]).collect::<Vec<i64>>()))
        }
        false => {
            let v = t.to_vec::<f32>()?;
            Some(Tensor::vector(&perm.iter().map(|&p| v[p]).collect::<Vec<f32>>()))
        }
    }
}
