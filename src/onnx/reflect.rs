//! Protobuf's text format and JSON mapping, by a second set of generated types that know the names
//! of their fields. The two sets exchange encoded bytes.

use std::borrow::Cow;
use std::fmt::Write;

use prost::Message as _;
use protobuf::Message as _;
use protobuf::reflect::{MessageRef, ReflectFieldRef, ReflectValueRef};

use super::{SaveError, pb};

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/reflect/mod.rs"));
}
use generated::onnx::ModelProto;

/// A message from protobuf's text format.
pub(super) fn from_text(text: &[u8]) -> Result<pb::ModelProto, String> {
    let text = readable(text, true)?;
    adopt(&protobuf::text_format::parse_from_str(text).map_err(|e| e.to_string())?)
}

/// A message from JSON. Unknown fields are errors.
pub(super) fn from_json(text: &[u8]) -> Result<pb::ModelProto, String> {
    let text = readable(text, false)?;
    let text = join_surrogates(text);
    adopt(&protobuf_json_mapping::parse_from_str(&text).map_err(|e| e.to_string())?)
}

/// Replaces escaped surrogate pairs, which the JSON reader does not know, by their characters.
fn join_surrogates(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let rest = &text.as_bytes()[at..];
        match surrogate_pair(rest) {
            Some(c) => {
                out.push_str(&text[done..at]);
                out.push(c);
                at += 12;
                done = at;
            }
            // The escape is one character long, and no later one starts inside it.
            None => at += 1 + usize::from(rest.get(1).is_some_and(u8::is_ascii)),
        }
    }
    match done {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(out + &text[done..]),
    }
}

fn surrogate_pair(text: &[u8]) -> Option<char> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match (unit(0)?, unit(6)?) {
        (high @ 0xd800..=0xdbff, low) => char::decode_utf16([high, low]).next()?.ok(),
        _ => None,
    }
}

/// Deepest nesting that is read, about that of binary files. The readers recurse.
const MAX_DEPTH: usize = 128;

/// The text, unless it is nested so deeply that reading it would exhaust the stack.
fn readable(text: &[u8], comments: bool) -> Result<&str, String> {
    let (mut depth, mut quote, mut at) = (0usize, None, 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(q), _) if q == byte || (comments && byte == b'\n') => quote = None,
            (Some(_), _) => {}
            (None, b'"') => quote = Some(byte),
            (None, b'\'') if comments => quote = Some(byte),
            (None, b'#') if comments => {
                at += text[at..].iter().position(|&b| b == b'\n').unwrap_or(0);
            }
            (None, b'{' | b'[' | b'<') => depth += 1,
            (None, b'}' | b']' | b'>') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
    }
    std::str::from_utf8(text).map_err(|e| e.to_string())
}

fn adopt(message: &ModelProto) -> Result<pb::ModelProto, String> {
    let bytes = message.write_to_bytes().map_err(|e| e.to_string())?;
    pb::ModelProto::decode(bytes::Bytes::from(bytes)).map_err(|e| e.to_string())
}

/// Protobuf's text format of a message.
pub(super) fn to_text(message: &pb::ModelProto) -> Result<String, SaveError> {
    let mut out = String::new();
    fields(MessageRef::from(&hand_over(message, "protobuf text")?), 0, &mut out);
    Ok(out)
}

fn fields(message: MessageRef, depth: usize, out: &mut String) {
    for f in message.descriptor_dyn().fields() {
        match f.get_reflect(&*message) {
            ReflectFieldRef::Optional(value) => {
                if let Some(v) = value.value() {
                    field(f.name(), v, depth, out);
                }
            }
            ReflectFieldRef::Repeated(values) => {
                values.into_iter().for_each(|v| field(f.name(), v, depth, out));
            }
            ReflectFieldRef::Map(_) => {}
        }
    }
}

fn field(name: &str, value: ReflectValueRef, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    _ = write!(out, "{indent}{name}");
    // The library's own printer writes large floats so that no reader takes them.
    _ = match value {
        ReflectValueRef::Message(m) => {
            out.push_str(" {\n");
            fields(m, depth + 1, out);
            write!(out, "{indent}}}")
        }
        ReflectValueRef::Enum(d, v) => match d.value_by_number(v) {
            Some(named) => write!(out, ": {}", named.name()),
            None => write!(out, ": {v}"),
        },
        ReflectValueRef::String(s) => write!(out, ": {}", Quoted(s.as_bytes())),
        ReflectValueRef::Bytes(b) => write!(out, ": {}", Quoted(b)),
        ReflectValueRef::F32(v) if v.is_nan() => write!(out, ": nan"),
        ReflectValueRef::F64(v) if v.is_nan() => write!(out, ": nan"),
        ReflectValueRef::F32(v) => write!(out, ": {v:?}"),
        ReflectValueRef::F64(v) => write!(out, ": {v:?}"),
        ReflectValueRef::I32(v) => write!(out, ": {v}"),
        ReflectValueRef::I64(v) => write!(out, ": {v}"),
        ReflectValueRef::U32(v) => write!(out, ": {v}"),
        ReflectValueRef::U64(v) => write!(out, ": {v}"),
        ReflectValueRef::Bool(v) => write!(out, ": {v}"),
    };
    out.push('\n');
}

/// A string with what is not printable UTF-8 as octal escapes.
struct Quoted<'a>(&'a [u8]);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    '\0'..' ' | '\x7f' => write!(f, "\\{:03o}", u32::from(c))?,
                    _ => f.write_char(c)?,
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\{b:03o}")?;
            }
        }
        f.write_char('"')
    }
}

/// JSON of a message, fields named as in the schema.
pub(super) fn to_json(message: &pb::ModelProto) -> Result<String, SaveError> {
    let options =
        protobuf_json_mapping::PrintOptions { proto_field_name: true, ..Default::default() };
    protobuf_json_mapping::print_to_string_with_options(&hand_over(message, "JSON")?, &options)
        .map_err(|e| SaveError::Format { format: "JSON", what: e.to_string() })
}

fn hand_over(message: &pb::ModelProto, format: &'static str) -> Result<ModelProto, SaveError> {
    ModelProto::parse_from_bytes(&message.encode_to_vec())
        .map_err(|e| SaveError::Format { format, what: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_become_characters() {
        assert_eq!(join_surrogates(r#""a\ud83d\ude00b\n""#), "\"a\u{1f600}b\\n\"");
        assert_eq!(join_surrogates(r#""\\ud83d\ude00é\""#), r#""\\ud83d\ude00é\""#);
        assert_eq!(join_surrogates("plain"), "plain");
        assert_eq!(join_surrogates("\\é\\"), "\\é\\");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = "graph { node { attribute { g { ".repeat(100);
        assert!(from_text(text.as_bytes()).is_err_and(|e| e.contains("nested")));
        let json = "{\"graph\":".repeat(100_000);
        assert!(from_json(json.as_bytes()).is_err_and(|e| e.contains("nested")));
        assert!(readable(b"s: \"{{\\\"{\" # {{\n", true).is_ok());
    }

    #[test]
    fn floats_survive_text() {
        let values = [1e300, 5e-324, -0.0, 0.1, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let tensor = pb::TensorProto { double_data: values.to_vec(), ..Default::default() };
        let graph = pb::GraphProto { initializer: vec![tensor], ..Default::default() };
        let model = pb::ModelProto { graph: Some(graph), ..Default::default() };
        for (text, read) in [
            (to_text(&model), from_text as fn(&[u8]) -> Result<pb::ModelProto, String>),
            (to_json(&model), from_json as fn(&[u8]) -> _),
        ] {
            let text = text.expect("text");
            let back: pb::ModelProto =
                read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
            let found = &back.graph.expect("graph").initializer[0].double_data;
            let bits = |v: &[f64]| v.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>();
            assert_eq!(bits(found), bits(&values), "{text}");
        }
    }
}
