//! Activations and the softmax family.

use super::elementwise::{infer_broadcast, infer_same};
use super::eval::numeric;
use super::{Axes, OpSchema, axes};

const fn activation(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_same, axes: Axes::Elementwise, ..OpSchema::new(op_type) }
}

const fn softmax(op_type: &'static str) -> OpSchema {
    OpSchema { axes: Axes::Rule(axes::along_axis), ..activation(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    activation("Celu"),
    activation("Elu"),
    activation("Gelu"),
    activation("HardSigmoid"),
    activation("HardSwish"),
    softmax("Hardmax"),
    activation("LeakyRelu"),
    softmax("LogSoftmax"),
    activation("Mish"),
    OpSchema { infer: infer_broadcast, ..activation("PRelu") },
    OpSchema { eval: Some(numeric::unary), idempotent: true, ..activation("Relu") },
    activation("Selu"),
    activation("Shrink"),
    activation("Sigmoid"),
    softmax("Softmax"),
    activation("Softplus"),
    activation("Softsign"),
    activation("Swish"),
    activation("ThresholdedRelu"),
];
