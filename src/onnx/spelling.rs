//! The flags of [`Spelling`].

use super::pb;
use crate::ir::Spelling;

// Texts that are written although they are empty.
pub(super) const NAME: u32 = 1;
pub(super) const DOC: u32 = 1 << 1;
pub(super) const DOMAIN: u32 = 1 << 2;
pub(super) const OVERLOAD: u32 = 1 << 3;
pub(super) const PRODUCER_NAME: u32 = 1 << 4;
pub(super) const PRODUCER_VERSION: u32 = 1 << 5;
/// The default domain is written as `ai.onnx`.
pub(super) const LONG_DOMAIN: u32 = 1 << 6;
/// The default domain is written as `ai.onnx` among the operator sets.
pub(super) const LONG_OPSET: u32 = 1 << 7;
/// The default domain is left out among the operator sets.
pub(super) const NO_OPSET_DOMAIN: u32 = 1 << 8;
pub(super) const NO_IR_VERSION: u32 = 1 << 9;
/// The name of a graph is left out.
pub(super) const NO_NAME: u32 = 1 << 10;
/// A tensor without elements has no data field.
pub(super) const NO_DATA: u32 = 1 << 11;
/// `data_location` is written although the data is not external.
pub(super) const LOCATION: u32 = 1 << 12;
/// The type of an attribute is left out.
pub(super) const NO_TYPE: u32 = 1 << 13;
/// The value of an attribute is left out: zero or empty.
pub(super) const NO_VALUE: u32 = 1 << 14;

/// The text is there and empty.
pub(super) fn blank(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(String::is_empty)
}

/// A text, left out when it is empty and the file did not write it anyway.
pub(super) fn text(s: &str, spelling: Spelling, flag: u32) -> Option<String> {
    (!s.is_empty() || spelling.has(flag)).then(|| s.to_owned())
}

/// How operator sets name the default domain.
pub(super) fn of_opsets(list: &[pb::OperatorSetIdProto]) -> Spelling {
    Spelling::default()
        .with(NO_OPSET_DOMAIN, list.iter().any(|o| o.domain.is_none()))
        .with(LONG_OPSET, list.iter().any(|o| o.domain() == "ai.onnx"))
}

/// How a message names the domain of its operator.
pub(super) fn of_domain(domain: &Option<String>) -> Spelling {
    Spelling::default()
        .with(DOMAIN, blank(domain))
        .with(LONG_DOMAIN, domain.as_deref() == Some("ai.onnx"))
}

/// The domain of an operator, as the file wrote it.
pub(super) fn domain(name: &str, spelling: Spelling) -> Option<String> {
    match name {
        "" if spelling.has(LONG_DOMAIN) => Some("ai.onnx".to_owned()),
        _ => text(name, spelling, DOMAIN),
    }
}
