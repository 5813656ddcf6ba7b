//! Protobuf's text format and JSON mapping, by a second set of generated types that know the names
//! of their fields. The two sets exchange encoded bytes.

use prost::Message as _;
use protobuf::Message as _;

use super::{SaveError, pb};

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/reflect/mod.rs"));
}
use generated::onnx::ModelProto;

/// A message from protobuf's text format.
pub(super) fn from_text(text: &[u8]) -> Result<pb::ModelProto, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    adopt(&protobuf::text_format::parse_from_str(text).map_err(|e| e.to_string())?)
}

/// A message from JSON. Unknown fields are errors.
pub(super) fn from_json(text: &[u8]) -> Result<pb::ModelProto, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    adopt(&protobuf_json_mapping::parse_from_str(text).map_err(|e| e.to_string())?)
}

fn adopt(message: &ModelProto) -> Result<pb::ModelProto, String> {
    let bytes = message.write_to_bytes().map_err(|e| e.to_string())?;
    pb::ModelProto::decode(bytes::Bytes::from(bytes)).map_err(|e| e.to_string())
}

/// Protobuf's text format of a message.
pub(super) fn to_text(message: &pb::ModelProto) -> Result<String, SaveError> {
    Ok(protobuf::text_format::print_to_string_pretty(&hand_over(message, "protobuf text")?))
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
