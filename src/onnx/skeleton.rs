//! Models without their weights, for engines that take those apart.

use bytes::Bytes;

use super::save::to_rope;
use super::write_graph::encode_model;
use super::{SaveError, encode, pb};
use crate::ir::{Model, Tensor, TensorData, Type, ValueId};

/// A model file in which the dense initializers of the main graph are inputs instead, and whose
/// main nodes are called `op@0`, `op@1`, … in the order of [`Graph::sorted`](crate::ir::Graph). (tract
/// gives what has a `#` in its name a name anew, and tries all that are taken.)
#[derive(Debug)]
pub struct Skeleton {
    /// The file.
    pub bytes: Bytes,
    /// The initializers that were taken out: handles, not copies.
    pub weights: Vec<(String, Tensor)>,
}

/// Takes a model apart.
///
/// # Errors
/// When the graph has a cycle.
pub fn skeleton(model: &Model) -> Result<Skeleton, SaveError> {
    let (mut proto, names) = encode_model(model)?;
    let graph = proto.graph.get_or_insert_default();
    for (i, node) in graph.node.iter_mut().enumerate() {
        node.name = Some(format!("op@{i}"));
    }
    let g = &model.graph;
    let mut ids: Vec<ValueId> = g.values().filter(|v| g.initializer(*v).is_some()).collect();
    ids.sort_unstable();
    let mut weights = Vec::with_capacity(ids.len());
    for v in ids {
        let Some(data) = g.initializer(v) else { continue };
        if matches!(data.data(), TensorData::Sparse(_)) || g.is_capture(v) {
            continue;
        }
        if !g.is_input(v) {
            let dims: Vec<_> = data.dims().iter().map(|&d| d.into()).collect();
            graph.input.push(pb::ValueInfoProto {
                name: Some(names[&v].clone()),
                r#type: encode::ty(&Type::tensor(data.dtype(), Some(dims))).map(Box::new),
                ..Default::default()
            });
        }
        weights.push((names[&v].clone(), data.clone()));
    }
    graph.initializer.clear();
    Ok(Skeleton { bytes: to_rope(&proto).into_bytes(), weights })
}
