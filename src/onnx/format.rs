//! File formats, told apart by extension.

use std::path::Path;

/// How a model is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A protobuf message: `.onnx` and everything else.
    Binary,
    /// ONNX's own textual syntax: `.onnxtxt` and `.txt`.
    OnnxText,
    /// Protobuf's text format: `.textproto`, `.pbtxt` and `.prototxt`.
    TextProto,
    /// Protobuf's JSON mapping: `.json`.
    Json,
}

impl Format {
    /// The format that the extension of `path` asks for.
    pub fn of(path: &Path) -> Format {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "onnxtxt" | "txt" => Format::OnnxText,
            "textproto" | "pbtxt" | "prototxt" => Format::TextProto,
            "json" => Format::Json,
            _ => Format::Binary,
        }
    }
}
