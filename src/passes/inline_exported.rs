//! # inline-exported
//!
//! ## What it does
//! Puts the bodies of functions that exporters wrap around modules and operators in the place of their
//! calls, so that everything else sees what they do.
//!
//! ## Before/after
//! ```text
//! y = pkg.onnxscript.torch_lib.aten_relu (x)          y = Relu (x)
//! ```
//!
//! ## When it applies
//! The domain of the function is one that PyTorch's exporters use: `pkg.…`, `torch.…`, `onnxscript.…`. All
//! of them are inlined when the file then grows by no more than the growth limit, else only those
//! that are called once. ONNX Runtime and TensorRT inline functions when they load a model.
//!
//! ## What it preserves
//! Functions of other domains: to a runtime their name may mean a plugin. `inline-functions`
//! inlines them on request.
//!
//! ## Limits
//! Those of `inline-functions`.

use super::bodies::size;
use super::inline_functions::{called, inline_those};
use crate::ir::{Function, Model, for_each_graph};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics};

pub(crate) struct InlineExported;

static INFO: PassInfo = PassInfo {
    name: "inline-exported",
    summary: "put the bodies of functions that exporters make in the place of their calls",
    semantics: Semantics::Exact,
    source: include_str!("inline_exported.rs"),
};

impl Pass for InlineExported {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
        if !model.functions.iter().any(is_exported) {
            return Ok(());
        }
        let calls = calls(model);
        let growth = growth(&model.functions, &calls);
        if growth <= cx.room {
            cx.room -= growth.max(0);
            inline_those(model, &is_exported);
            return Ok(());
        }
        let key = |f: &Function| (f.domain.clone(), f.name.clone(), f.overload.clone());
        let once = model.functions.iter().zip(&calls).filter(|(_, n)| **n == 1);
        let once: Vec<_> = once.map(|(f, _)| key(f)).collect();
        inline_those(model, &|f| is_exported(f) && once.contains(&key(f)));
        Ok(())
    }
}

fn is_exported(f: &Function) -> bool {
    ["pkg.", "torch.", "onnxscript."].iter().any(|prefix| f.domain.starts_with(prefix))
}

/// How often each function is called, from the main graph and from functions.
fn calls(m: &Model) -> Vec<usize> {
    let mut counts = vec![0; m.functions.len()];
    let graphs = m.functions.iter().map(|f| &f.graph).chain([&m.graph]);
    for graph in graphs {
        for_each_graph(graph, &mut |g| {
            for op in g.ops() {
                let callee = called(&m.functions, g.op(op));
                let index =
                    callee.and_then(|f| m.functions.iter().position(|h| std::ptr::eq(h, f)));
                if let Some(i) = index {
                    counts[i] += 1;
                }
            }
        });
    }
    counts
}

/// Bytes that the file grows by, about; calls within functions that are called often count once.
fn growth(functions: &[Function], calls: &[usize]) -> i64 {
    let bytes = functions.iter().zip(calls).filter(|(f, _)| is_exported(f)).map(|(f, n)| {
        let bytes = i64::try_from(size(&f.graph).1).unwrap_or(i64::MAX);
        bytes.saturating_mul(i64::try_from(*n).unwrap_or(i64::MAX).saturating_sub(1))
    });
    bytes.fold(0, i64::saturating_add)
}
