//! What a schema sees of an op when it infers, and how it answers.

use std::borrow::Cow;
use std::sync::Arc;

use crate::ir::{DType, Dim, Graph, Op, OpId, Shape, Tensor, Type, Value};

/// The op contradicts its operator: wrong ranks, sizes that do not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InferError(pub Cow<'static, str>);

impl From<&'static str> for InferError {
    fn from(what: &'static str) -> InferError {
        InferError(what.into())
    }
}

impl From<String> for InferError {
    fn from(what: String) -> InferError {
        InferError(what.into())
    }
}

/// An op with what is known of its operands, and room for what its schema finds out.
pub struct InferCx<'a> {
    graph: &'a Graph,
    id: OpId,
    opset: i64,
    found: Vec<Found>,
}

/// What inference found out about one result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Its type.
    pub ty: Option<Type>,
    /// Its elements, when it is an integer tensor of rank 0 or 1.
    pub sym: Option<Arc<[Dim]>>,
}

/// What is known of integers that an op takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The op has neither the attribute nor the operand.
    Absent,
    /// They are there, but only the running model knows them.
    Unknown,
    /// The elements.
    Ints(Vec<Dim>),
}

/// Longest integer tensor whose elements are carried along.
pub const MAX_SYM: usize = 64;

impl<'a> InferCx<'a> {
    /// For op `id` of `graph`, under version `opset` of the default operator set.
    pub fn new(graph: &'a Graph, id: OpId, opset: i64) -> InferCx<'a> {
        let found = vec![Found::default(); graph.op(id).result_count()];
        InferCx { graph, id, opset, found }
    }

    /// The op.
    pub fn op(&self) -> &'a Op {
        self.graph.op(self.id)
    }

    /// The graph around it.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// Its id.
    pub fn id(&self) -> OpId {
        self.id
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The operand in slot `i`.
    pub fn value(&self, i: usize) -> Option<&'a Value> {
        self.graph.operand(self.id, i).map(|v| self.graph.value(v))
    }

    /// The value in result slot `i`, as known so far.
    pub fn result(&self, i: usize) -> Option<&'a Value> {
        self.graph.result(self.id, i).map(|v| self.graph.value(v))
    }

    /// Slot `i` holds a value.
    pub fn has(&self, i: usize) -> bool {
        self.graph.operand(self.id, i).is_some()
    }

    /// Number of operand slots.
    pub fn arity(&self) -> usize {
        self.op().arity()
    }

    /// Type of operand `i`.
    pub fn ty(&self, i: usize) -> Option<&'a Type> {
        self.value(i)?.ty.as_ref()
    }

    /// Element type of operand `i`.
    pub fn dtype(&self, i: usize) -> Option<DType> {
        self.value(i)?.dtype()
    }

    /// Shape of operand `i`.
    pub fn shape(&self, i: usize) -> Option<&'a Shape> {
        self.value(i)?.shape()
    }

    /// Rank of operand `i`.
    pub fn rank(&self, i: usize) -> Option<usize> {
        self.value(i)?.rank()
    }

    /// Data of operand `i`, when it is constant or comes from a `Constant`.
    pub fn tensor(&self, i: usize) -> Option<&'a Tensor> {
        let v = self.graph.operand(self.id, i)?;
        if let Some(t) = self.graph.const_tensor(v) {
            return Some(t);
        }
        let maker = self.graph.op(self.graph.producer_op(v)?);
        if maker.is("Constant") { maker.tensor("value") } else { None }
    }

    /// Integers that the operator takes as attribute `attr` in some versions and as operand `slot`
    /// in others.
    pub fn arg(&self, attr: &str, slot: usize) -> Arg {
        if let Some(v) = self.op().ints(attr) {
            return Arg::Ints(v.iter().copied().map(Dim::Known).collect());
        }
        if let Some(v) = self.op().int(attr) {
            return Arg::Ints(vec![Dim::Known(v)]);
        }
        match (self.has(slot), self.ints(slot)) {
            (false, _) => Arg::Absent,
            (true, Some(v)) => Arg::Ints(v),
            (true, None) => Arg::Unknown,
        }
    }

    /// As [`InferCx::arg`], counted from the front of `rank` axes; `Ok(None)` when they are not
    /// known, `absent` when the op names none.
    ///
    /// # Errors
    /// When an axis is out of range.
    pub fn axes_arg(
        &self,
        slot: usize,
        rank: usize,
        absent: Vec<usize>,
    ) -> Result<Option<Vec<usize>>, InferError> {
        match self.arg("axes", slot) {
            Arg::Absent => Ok(Some(absent)),
            Arg::Unknown => Ok(None),
            Arg::Ints(v) => match v.iter().map(Dim::known).collect::<Option<Vec<i64>>>() {
                None => Ok(None),
                Some(v) => {
                    v.into_iter().map(|a| self.axis(a, rank)).collect::<Result<_, _>>().map(Some)
                }
            },
        }
    }

    /// Result `to` has the type of operand `from`.
    pub fn copy_type(&mut self, from: usize, to: usize) {
        if let Some(ty) = self.ty(from).cloned() {
            self.set_type(to, ty);
        }
    }

    /// Result `to` has the elements of operand `from`, if they are known.
    pub fn copy_ints(&mut self, from: usize, to: usize) {
        if let Some(v) = self.ints(from) {
            self.set_ints(to, v);
        }
    }

    /// Elements of the integer operand `i` of rank 0 or 1, as far as they are known.
    pub fn ints(&self, i: usize) -> Option<Vec<Dim>> {
        if let Some(t) = self.tensor(i) {
            if t.rank() > 1
                || t.len() > MAX_SYM
                || !(t.dtype().is_int() || t.dtype() == DType::Bool)
            {
                return None;
            }
            return Some(t.to_i64()?.into_iter().map(Dim::Known).collect());
        }
        self.value(i)?.sym.as_ref().map(|s| s.to_vec())
    }

    /// Elements of the integer operand `i` of rank 0 or 1, when all are known.
    pub fn known_ints(&self, i: usize) -> Option<Vec<i64>> {
        if let Some(t) = self.tensor(i) {
            return if t.dtype().is_float() { None } else { t.to_i64() };
        }
        self.value(i)?.sym.as_ref()?.iter().map(Dim::known).collect()
    }

    /// `axis` counted from the front; an error when it is out of range.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, InferError> {
        normalize_axis(axis, rank)
            .ok_or_else(|| format!("axis {axis} is out of range for rank {rank}").into())
    }

    /// Sets the element type and, if known, the shape of result `i`.
    pub fn set(&mut self, i: usize, dtype: Option<DType>, shape: Option<Shape>) {
        if dtype.is_none() && shape.is_none() {
            return;
        }
        let ty = crate::ir::TensorType { dtype, shape, denotations: None };
        self.set_type(i, Type::Tensor(ty));
    }

    /// Sets the type of result `i`.
    pub fn set_type(&mut self, i: usize, ty: Type) {
        if let Some(found) = self.found.get_mut(i) {
            found.ty = Some(ty);
        }
    }

    /// Sets the elements of integer result `i` of rank 0 or 1.
    pub fn set_ints(&mut self, i: usize, elements: Vec<Dim>) {
        if let Some(found) = self.found.get_mut(i).filter(|_| elements.len() <= MAX_SYM) {
            found.sym = Some(elements.into());
        }
    }

    /// What was found, one entry for each result.
    pub fn finish(self) -> Vec<Found> {
        self.found
    }
}

/// The shape that operands of shapes `a` and `b` broadcast to. Where two symbols meet of which
/// either may be 1, the result has a size of its own.
///
/// # Errors
/// When two sizes differ and neither is 1.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, InferError> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| match (i + s.len()).checked_sub(rank) {
        Some(k) => s[k].clone(),
        None => Dim::Known(1),
    };
    (0..rank).map(|i| broadcast_dim(&at(a, i), &at(b, i))).collect()
}

fn broadcast_dim(a: &Dim, b: &Dim) -> Result<Dim, InferError> {
    if a.same(b) {
        return Ok(a.clone());
    }
    match (a.known(), b.known()) {
        (Some(1), _) => Ok(b.clone()),
        (_, Some(1)) => Ok(a.clone()),
        (Some(x), Some(y)) => Err(format!("sizes {x} and {y} do not broadcast").into()),
        (Some(_), None) => Ok(a.clone()),
        (None, Some(_)) => Ok(b.clone()),
        (None, None) if a.at_least(2) || b.is_capped(a) => Ok(a.clone()),
        (None, None) if b.at_least(2) || a.is_capped(b) => Ok(b.clone()),
        (None, None) => Ok(Dim::fresh()),
    }
}

/// The size of an axis along which both operands agree, as well as it is known.
pub fn unify_dim(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Known(_), _) | (_, Dim::Unknown) => a.clone(),
        (_, Dim::Known(_)) | (Dim::Unknown, _) => b.clone(),
        _ => a.clone(),
    }
}

/// `axis` counted from the front, if it is in range.
pub fn normalize_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank)? } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}
