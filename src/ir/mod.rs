//! The intermediate representation: a graph of op nodes and value nodes.
//!
//! # Invariants
//! [`Graph::check`] verifies them; `onnx::load` establishes them and edits keep them.
//! - An edge joins an op and a value and names its [`Slot`]; no two edges of an op share a slot.
//! - A value has at most one source: the op that makes it, its data, being an input, or a capture.
//!   (A graph input may also hold data: its default.)
//! - A value that is read or is an output has a source.
//! - Names are unique in a graph. Across scopes, `onnx::save` makes them so.
//! - Every capture slot of an op is connected to a value outside and to one in a body.
//! - The graph is acyclic.
//!
//! The module knows neither protobuf nor operators.

mod attr;
mod buffer;
mod capture;
mod check;
mod dtype;
pub(crate) mod e4m3;
mod edit;
mod graph;
mod inline;
pub(crate) mod layout;
mod model;
mod names;
mod op;
mod order;
mod patch;
mod poly;
mod shape;
mod sparse;
mod spelling;
mod tensor;
mod value;

pub use attr::{Attr, AttrValue};
pub use check::Violation;
pub use dtype::DType;
pub use graph::{Graph, OpId, Slot, ValueId};
pub use model::{Function, Model, attr_tensors, count_nodes, for_each_graph, opset_of};
pub use op::Op;
pub use order::Cycle;
pub use patch::{Miss, Patch, Ref};
pub use poly::{Atom, DimOp, Poly};
pub use shape::{Dim, Shape, known_sizes};
pub use spelling::Spelling;
pub(crate) use tensor::all_finite;
pub use tensor::{Element, Tensor, TensorData, TensorError, TensorInfo, element_count};
pub use value::{Notes, TensorType, Type, Value};
