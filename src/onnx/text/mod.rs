//! ONNX's own textual syntax (`onnx.parser` and `onnx.printer` speak it, too).
//!
//! What that syntax has no place for is not written: doc strings and metadata below the model,
//! quantization annotations, training information, device configurations, denotations. Save as
//! `.textproto` or `.json` to keep everything.
//!
//! Beyond what `onnx.parser` 1.22 accepts, the syntax here has
//! - quoted names wherever a name may stand, attributes, operators and domains included;
//! - `\xHH` in strings for bytes that are not UTF-8;
//! - sparse tensors, `sparse_tensor(float[4]) { float[1] {2.0}, int64[1] {3} }`;
//! - lists of tensors, graphs and types; `opaque(domain, name)`; `undefined` as element type;
//! - float literals for `float16` and `bfloat16`, whose integers are bit patterns.

mod cursor;
mod elements;
mod parse;
mod parse_value;
mod print;
mod print_value;

use super::{LoadError, load, pb, write_graph};
use crate::ir::Model;

/// What is printed, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct PrintOptions {
    /// Tensors with more elements than this show only so many, then `...`, which cannot be parsed.
    pub max_elements: Option<usize>,
    /// Print only nodes whose name, operator or a result matches, subgraphs included.
    pub nodes: Option<globset::GlobMatcher>,
}

/// Reads a model. External data are not looked for; [`load`] of a file does that.
///
/// # Errors
/// [`LoadError::Text`] with the line where the text is not of the syntax; the other errors where
/// it is, but the model is not valid.
pub fn parse(text: &str) -> Result<Model, LoadError> {
    load::model_of(&parse_proto(text.as_bytes())?, None)
}

/// Writes a model. A graph with a cycle, which no file can hold, becomes a comment that says so.
pub fn print(model: &Model, options: &PrintOptions) -> String {
    match write_graph::encode_model(model) {
        Ok((proto, _)) => print_proto(&proto, options),
        Err(error) => format!("# {error}\n"),
    }
}

/// The message that the text stands for.
pub(super) fn parse_proto(text: &[u8]) -> Result<pb::ModelProto, LoadError> {
    parse::model(&mut cursor::Cursor::new(text))
}

/// The text for a message. Tensors whose data is external are written as their location.
pub(super) fn print_proto(proto: &pb::ModelProto, options: &PrintOptions) -> String {
    print::model(proto, options)
}

/// Words that begin a type, and are therefore quoted where they are names.
const TYPE_WORDS: [&str; 6] = ["seq", "map", "optional", "sparse_tensor", "opaque", "undefined"];

fn is_type_word(word: &str) -> bool {
    TYPE_WORDS.contains(&word) || crate::ir::DType::from_name(word).is_some()
}

/// Float literals that look like names.
fn is_float_word(word: &str) -> bool {
    ["inf", "infinity", "nan"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// Attribute types by name, each with the name of the list of them.
const ATTR_TYPES: [(&str, &str, i32, i32); 7] = [
    ("float", "floats", 1, 6),
    ("int", "ints", 2, 7),
    ("string", "strings", 3, 8),
    ("tensor", "tensors", 4, 9),
    ("graph", "graphs", 5, 10),
    ("sparse_tensor", "sparse_tensors", 11, 12),
    ("type_proto", "type_protos", 13, 14),
];
