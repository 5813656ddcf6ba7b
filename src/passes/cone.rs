//! The constant ops behind an op: what has to run to know its operands.

use crate::engine::eval_op;
use crate::ir::{Graph, Miss, OpId, Patch, Tensor, ValueId};
use crate::maps::Map;
use crate::ops::{self, EvalCx};

/// Ops that make constants which only each other and one last op read.
///
/// Folding them one at a time may need room that folding all at once does not: three slices of a
/// weight that a Concat joins again, or a large tensor that is summed.
pub(super) struct Cone {
    /// The ops, producers first, without the last one.
    steps: Vec<OpId>,
    /// How often the ops read each constant.
    reads: Map<ValueId, usize>,
}

/// Ops in a cone and steps from its last op.
const MAX_STEPS: usize = 48;
const MAX_DEPTH: usize = 6;

/// Bytes that a step may take while folding.
const MAX_STEP_BYTES: usize = 256 << 20;

/// Folding them would lose what they tell a runtime about quantization.
const KEPT: &[&str] = &["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"];

/// The op computes the same from the same constants, and may be run ahead.
pub(super) fn check_foldable(g: &Graph, at: OpId) -> Result<(), Miss> {
    let op = g.op(at);
    if op.is("Constant") || !op.bodies.is_empty() || op.has_ref_attrs() {
        return Err("it is no plain op".into());
    }
    let schema = ops::schema(op).ok_or("the operator is unknown")?;
    if !schema.deterministic || KEPT.contains(&op.op_type.as_str()) {
        return Err("the operator is never folded".into());
    }
    Ok(())
}

impl Cone {
    /// The cone that ends in `at`.
    pub fn before(g: &Graph, at: OpId) -> Result<Cone, Miss> {
        let mut cone = Cone { steps: Vec::new(), reads: Map::default() };
        if g.op(at).arity() == 0 {
            return Err("it has no operands".into());
        }
        cone.collect(g, at, MAX_DEPTH)?;
        Ok(cone)
    }

    fn collect(&mut self, g: &Graph, op: OpId, depth: usize) -> Result<(), Miss> {
        for v in g.operands(op).into_iter().flatten() {
            if g.is_const(v) {
                *self.reads.entry(v).or_insert(0) += 1;
                continue;
            }
            let step = g.producer_op(v).ok_or("an operand is no constant")?;
            if self.steps.contains(&step) {
                continue;
            }
            if depth == 0 || self.steps.len() >= MAX_STEPS || g.op(step).result_count() != 1 {
                return Err("an operand is no constant".into());
            }
            check_foldable(g, step).map_err(|_| "an operand is no constant")?;
            self.collect(g, step, depth - 1)?;
            self.steps.push(step);
        }
        Ok(())
    }

    /// Tells the patch which constants go when the whole cone goes; an op in it that others read, too,
    /// stays with all that it reads.
    pub fn free(&self, g: &Graph, at: OpId, patch: &mut Patch) -> Result<(), Miss> {
        for step in &self.steps {
            let Some(v) = g.result(*step, 0) else { continue };
            let inside = |op: OpId| op == at || self.steps.contains(&op);
            if g.is_output(v) || !g.uses(v).into_iter().all(|(op, _)| inside(op)) {
                return Err("something else reads a constant on the way".into());
            }
        }
        let mut reads: Vec<(ValueId, usize)> = self.reads.iter().map(|(v, n)| (*v, *n)).collect();
        reads.sort_unstable();
        for (v, n) in reads {
            if !g.is_capture(v) && !g.is_output(v) && g.use_count(v) == n {
                patch.frees(g, v);
            }
        }
        Ok(())
    }

    /// The results of `at`, which take at most `max_bytes`.
    pub fn run(&self, g: &Graph, at: OpId, opset: i64, max_bytes: usize) -> Option<Vec<Tensor>> {
        let mut made: Map<ValueId, Tensor> = Map::default();
        for step in &self.steps {
            let results = eval(g, *step, opset, &made, max_bytes.max(MAX_STEP_BYTES))?;
            made.insert(g.result(*step, 0)?, results.into_iter().next()?);
        }
        eval(g, at, opset, &made, max_bytes)
    }
}

fn eval(
    g: &Graph,
    op: OpId,
    opset: i64,
    made: &Map<ValueId, Tensor>,
    max_bytes: usize,
) -> Option<Vec<Tensor>> {
    let tensor = |v: ValueId| made.get(&v).or_else(|| g.const_tensor(v));
    let operands: Vec<Option<&Tensor>> =
        g.operands(op).into_iter().map(|v| v.and_then(tensor)).collect();
    let node = g.op(op);
    let cx = EvalCx { op: node, opset, operands: &operands, max_bytes };
    let native = ops::schema(node)?.eval.and_then(|eval| eval(&cx));
    native.or_else(|| eval_op(node, opset, &operands, max_bytes))
}
