//! Strings.

use super::{InferCx, InferError, OpSchema, broadcast};
use crate::ir::{DType, Dim};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: |cx| {
            cx.set(0, Some(DType::Str), None);
            if let (Some(a), Some(b)) = (cx.shape(0), cx.shape(1)) {
                let shape = broadcast(a, b)?;
                cx.set(0, Some(DType::Str), Some(shape));
            }
            Ok(())
        },
        ..OpSchema::new("StringConcat")
    },
    OpSchema { infer: infer_normalizer, ..OpSchema::new("StringNormalizer") },
    OpSchema {
        infer: |cx| {
            let mut pieces = cx.shape(0).cloned();
            pieces.iter_mut().for_each(|s| s.push(Dim::fresh()));
            cx.set(0, Some(DType::Str), pieces);
            cx.set(1, Some(DType::I64), cx.shape(0).cloned());
            Ok(())
        },
        ..OpSchema::new("StringSplit")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, Some(DType::Bool), cx.shape(0).cloned());
            Ok(())
        },
        ..OpSchema::new("RegexFullMatch")
    },
    OpSchema { infer: infer_tfidf, ..OpSchema::new("TfIdfVectorizer") },
];

/// Stopwords drop out along the last axis.
fn infer_normalizer(cx: &mut InferCx) -> Result<(), InferError> {
    let mut shape = cx.shape(0).cloned();
    if cx.op().attr("stopwords").is_some()
        && let Some(last) = shape.as_mut().and_then(|s| s.last_mut())
    {
        *last = Dim::fresh();
    }
    cx.set(0, Some(DType::Str), shape);
    Ok(())
}

/// One column for each index that an n-gram counts into.
fn infer_tfidf(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, Some(DType::F32), None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let columns = match cx.op().ints("ngram_indexes").and_then(|v| v.iter().max()) {
        Some(&max) => &Dim::Known(max) + &Dim::Known(1),
        None => Dim::Unknown,
    };
    let mut shape = x.clone();
    match shape.last_mut() {
        Some(last) => *last = columns,
        None => shape.push(columns),
    }
    cx.set(0, Some(DType::F32), Some(shape));
    Ok(())
}
