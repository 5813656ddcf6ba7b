//! What tract cannot run, found before it tries.

use std::sync::LazyLock;

use tract_onnx::Onnx;

use super::{HINT, NAME, fp8, tensor};
use crate::engine::EngineError;
use crate::ir::{Graph, Model, Op};

/// Operators of Microsoft's domain that mean the same as the standard ones of their names.
const SAME_IN_MICROSOFT: [&str; 4] =
    ["DequantizeLinear", "Gelu", "QuantizeLinear", "RotaryEmbedding"];

/// The largest single tensor that a model may declare.
const MAX_TENSOR: usize = 1 << 33;

/// tract's ONNX front end with all operators it has.
pub(super) fn front_end() -> &'static Onnx {
    static ONNX: LazyLock<Onnx> = LazyLock::new(|| {
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        fp8::register(&mut onnx);
        onnx
    });
    &ONNX
}

/// tract computes something else: its Celu does not multiply by alpha.
fn is_wrong(op: &Op) -> bool {
    op.op_type == "Celu" && op.float_or("alpha", 1.0) != 1.0
}

/// tract has an implementation that goes by the name of the operator and means it.
pub(super) fn knows(op: &Op) -> bool {
    let known = front_end().op_register.0.contains_key(op.op_type.as_str());
    known
        && !is_wrong(op)
        && match op.domain.as_str() {
            "" | "ai.onnx.ml" => op.op_type != fp8::ROUND,
            fp8::DOMAIN => op.op_type == fp8::ROUND,
            "com.microsoft" => {
                let mut plain = op.clone();
                plain.domain = String::new();
                crate::ops::schema(&plain).is_none()
                    || SAME_IN_MICROSOFT.contains(&op.op_type.as_str())
            }
            _ => false,
        }
}

/// Finds ops, element types and sizes that tract cannot do.
///
/// # Errors
/// The first of them, by its node.
pub(super) fn check(model: &Model) -> Result<(), EngineError> {
    check_graph(&model.graph)
}

fn check_graph(g: &Graph) -> Result<(), EngineError> {
    let fail = |node: Option<String>, what: String| {
        Err(EngineError::Unsupported { engine: NAME, node, what, hint: HINT })
    };
    for id in g.order() {
        let op = g.op(id);
        if is_wrong(op) {
            return fail(Some(g.label(id)), format!("it computes {} wrongly", op.full_type()));
        }
        if !knows(op) {
            return fail(Some(g.label(id)), format!("it has no operator {}", op.full_type()));
        }
        for v in g.operands(id).into_iter().chain(g.results(id)).flatten() {
            let value = g.value(v);
            if let Some(dtype) = value.dtype().filter(|d| tensor::datum_type(*d).is_none()) {
                let what = format!("{:?} is {dtype}, a type that it lacks", value.name());
                return fail(Some(g.label(id)), what);
            }
            let size = value.sizes().and_then(|s| {
                value.dtype()?.byte_len(crate::ir::element_count(&s).unwrap_or(usize::MAX))
            });
            if size.is_some_and(|n| n > MAX_TENSOR) {
                let what = format!("{:?} takes {} GiB", value.name(), size.unwrap_or(0) >> 30);
                return fail(Some(g.label(id)), what);
            }
        }
        for body in &op.bodies {
            check_graph(body)?;
        }
    }
    Ok(())
}
