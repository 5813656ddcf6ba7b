//! Compiles `proto/onnx.proto` twice from one parse, with no `protoc` on the machine.
//!
//! `protobuf-codegen` (pure Rust) writes the reflective types behind the text and JSON formats;
//! its descriptors then feed `prost-build`, whose types keep `bytes` fields as slices of the file.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use protobuf::descriptor::FileDescriptorSet;
use protobuf::reflect::FileDescriptor;
use protobuf_codegen::{Customize, CustomizeCallback};

const RARE: [&str; 7] = [
    ".onnx.AttributeProto.t",
    ".onnx.AttributeProto.g",
    ".onnx.AttributeProto.sparse_tensor",
    ".onnx.AttributeProto.tp",
    ".onnx.SparseTensorProto.values",
    ".onnx.SparseTensorProto.indices",
    ".onnx.ValueInfoProto.type",
];

/// Collects the descriptor of every file that the code generator visits.
struct Tap(Rc<RefCell<FileDescriptorSet>>);

impl CustomizeCallback for Tap {
    fn file(&self, file: &FileDescriptor) -> Customize {
        let mut set = self.0.borrow_mut();
        if !set.file.iter().any(|seen| seen.name() == file.name()) {
            set.file.push(file.proto().clone());
        }
        Customize::default()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    link_at_fixed_place();
    let reflect = PathBuf::from(std::env::var("OUT_DIR")?).join("reflect");
    std::fs::create_dir_all(&reflect)?;
    let set = Rc::new(RefCell::new(FileDescriptorSet::new()));
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/onnx.proto")
        .out_dir(&reflect)
        .customize(Customize::default().lite_runtime(false))
        .customize_callback(Tap(set.clone()))
        .run()?;
    let bytes = protobuf::Message::write_to_bytes(&*set.borrow())?;
    let descriptors = <prost_types::FileDescriptorSet as prost::Message>::decode(&bytes[..])?;
    let mut prost = prost_build::Config::new();
    prost.bytes(["."]).disable_comments(["."]);
    // Rarely filled and large: inline they would make every attribute and value larger by them.
    for field in RARE {
        prost.boxed(field);
    }
    prost.compile_fds(descriptors)?;
    Ok(())
}

/// Half the time that a small model takes would be the dynamic linker's, which fills in 100,000
/// addresses; an executable that is always loaded at the same place has them from the start.
fn link_at_fixed_place() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let glibc = target("OS") == "linux" && target("ENV") == "gnu";
    if glibc && ["x86_64", "aarch64"].contains(&&target("ARCH")[..]) {
        println!("cargo:rustc-link-arg-bin=lapidary=-no-pie");
    }
}
