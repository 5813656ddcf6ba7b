//! What happens to a layer's result next: a residual sum, then an activation.

use crate::ir::{Graph, OpId, Slot, ValueId};

/// An elementwise function whose flat parts forgive errors of its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Relu,
    Clip(f32, f32),
    Leaky(f32),
    HardSwish,
    /// `x · sigmoid(x)`.
    Swish,
    /// `x · hard_sigmoid(x)` with this slope and offset.
    HardGate(f32, f32),
    Gelu,
}

/// The larger of two numbers that are no NaN, as one instruction.
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller of two numbers that are no NaN, as one instruction.
pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

impl Activation {
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Clip(lo, hi) => x.max(lo).min(hi),
            Activation::Leaky(slope) => x.max(0.0) + slope * x.min(0.0),
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::HardGate(a, b) => x * (a * x + b).clamp(0.0, 1.0),
            Activation::Swish => x / (1.0 + (-x).exp()),
            // Close enough to tell which errors matter; Hendrycks and Gimpel, arXiv 1606.08415.
            Activation::Gelu => x / (1.0 + (-1.702 * x).exp()),
        }
    }

    /// Applies it to each element.
    pub fn apply_to(self, xs: &mut [f32]) {
        let all = xs.iter_mut();
        match self {
            Activation::Relu => all.for_each(|x| *x = larger(*x, 0.0)),
            Activation::Clip(lo, hi) => all.for_each(|x| *x = smaller(larger(*x, lo), hi)),
            _ => all.for_each(|x| *x = self.apply(*x)),
        }
    }

    fn of(g: &Graph, op: OpId) -> Option<Activation> {
        let node = g.op(op);
        let bound = |slot: usize, name: &str, open: f32| match node.float(name) {
            Some(v) => Some(v),
            None if g.operand(op, slot).is_none() => Some(open),
            None => g.const_operand(op, slot)?.single().map(|v| v as f32),
        };
        match node.op_type.as_str() {
            _ if !node.domain.is_empty() => None,
            "Relu" => Some(Activation::Relu),
            "Clip" => Some(Activation::Clip(
                bound(1, "min", f32::NEG_INFINITY)?,
                bound(2, "max", f32::INFINITY)?,
            )),
            "LeakyRelu" => Some(Activation::Leaky(node.float_or("alpha", 0.01))),
            "HardSwish" => Some(Activation::HardSwish),
            "Swish" if node.float_or("alpha", 1.0) == 1.0 => Some(Activation::Swish),
            "Gelu" => Some(Activation::Gelu),
            _ => None,
        }
    }
}

/// What a layer's result should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The value to come close to: the result, or the sum it is added into.
    pub value: ValueId,
    /// The other summand.
    pub shortcut: Option<ValueId>,
    pub activation: Option<Activation>,
}

impl Target {
    /// The target of the layer whose result is `output`.
    pub fn of(g: &Graph, output: ValueId) -> Target {
        let (value, shortcut) = match residual(g, output) {
            Some((sum, other)) => (sum, Some(other)),
            None => (output, None),
        };
        Target { value, shortcut, activation: activation(g, value) }
    }
}

/// The sum that alone reads the value, and its other summand of the same shape.
fn residual(g: &Graph, v: ValueId) -> Option<(ValueId, ValueId)> {
    let (add, slot) = g.sole_use(v)?;
    let other = g.operand(add, 1usize.checked_sub(slot)?)?;
    let (a, b) = (g.value(v).shape()?, g.value(other).shape()?);
    let alike = a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y));
    let fits = g.op(add).is("Add") && !g.is_const(other) && alike;
    fits.then(|| Some((g.result(add, 0)?, other)))?
}

/// The activation that alone reads the value: one op, or a gate and the product with it.
fn activation(g: &Graph, v: ValueId) -> Option<Activation> {
    if let Some((op, 0)) = g.sole_use(v) {
        return Activation::of(g, op);
    }
    let uses = g.uses(v);
    let &[(a, Slot::Operand(_)), (b, Slot::Operand(_))] = &uses[..] else { return None };
    let (gate, product) = if g.op(a).is("Mul") { (b, a) } else { (a, b) };
    let meets = g.sole_use(g.result(gate, 0)?).is_some_and(|(op, _)| op == product);
    if !g.op(product).is("Mul") || !meets || g.is_output(v) {
        return None;
    }
    let node = g.op(gate);
    match node.op_type.as_str() {
        _ if !node.domain.is_empty() => None,
        "Sigmoid" => Some(Activation::Swish),
        "HardSigmoid" => {
            Some(Activation::HardGate(node.float_or("alpha", 0.2), node.float_or("beta", 0.5)))
        }
        _ => None,
    }
}
