//! A bound on the memory that reading a file takes, found before anything is allocated.
//!
//! A message of two bytes can become a structure of hundreds. Models are far from that, but a file
//! made to do harm need not be large to fill the memory.

use super::pb;

/// Memory that any file may take, and how much more per byte of it.
const ALWAYS: usize = 1 << 30;
const PER_BYTE: usize = 8;

/// What stands in a length-delimited field.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attr,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TypeOfTensor,
    TypeOfOthers,
    Shape,
    Dim,
    Function,
    Training,
    Annotation,
    Opset,
    Pair,
    Devices,
    Text,
}

impl Kind {
    /// Bytes of the structure for it.
    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<pb::ModelProto>(),
            Kind::Graph => size_of::<pb::GraphProto>(),
            Kind::Node => size_of::<pb::NodeProto>(),
            Kind::Attr => size_of::<pb::AttributeProto>(),
            Kind::Tensor => size_of::<pb::TensorProto>(),
            Kind::Sparse => size_of::<pb::SparseTensorProto>(),
            Kind::ValueInfo => size_of::<pb::ValueInfoProto>(),
            Kind::Type | Kind::TypeOfTensor | Kind::TypeOfOthers => size_of::<pb::TypeProto>(),
            Kind::Shape => size_of::<pb::TensorShapeProto>(),
            Kind::Dim => size_of::<pb::tensor_shape_proto::Dimension>(),
            Kind::Function => size_of::<pb::FunctionProto>(),
            Kind::Training => size_of::<pb::TrainingInfoProto>(),
            Kind::Annotation => size_of::<pb::TensorAnnotation>(),
            Kind::Opset => size_of::<pb::OperatorSetIdProto>(),
            Kind::Pair => size_of::<pb::StringStringEntryProto>(),
            Kind::Devices => size_of::<pb::NodeDeviceConfigurationProto>(),
            Kind::Text => size_of::<bytes::Bytes>(),
        }
    }

    /// What field `number` of it holds; `None` for a single text and what needs no structure.
    fn field(self, number: u64) -> Option<Kind> {
        use Kind::*;
        Some(match (self, number) {
            (Model, 7) | (Attr, 6 | 11) | (Training, 1 | 2) => Graph,
            (Model, 8) | (Function, 9) => Opset,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Model, 26) | (Node, 10) => Devices,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attr, 5 | 10) | (Sparse, 1 | 2) => Tensor,
            (Graph, 15) | (Attr, 22 | 23) => Sparse,
            (Graph, 11..=13) | (Function, 12) => ValueInfo,
            (Graph, 14) => Annotation,
            (Node, 5) | (Function, 11) => Attr,
            (Node, 1 | 2) | (Attr, 9) | (Tensor, 6) | (Function, 4..=6) => Text,
            (Attr, 14 | 15) | (ValueInfo, 2) | (TypeOfOthers, 1 | 2) => Type,
            (Type, 1 | 8) => TypeOfTensor,
            (Type, 4 | 5 | 9) => TypeOfOthers,
            (TypeOfTensor, 2) => Shape,
            (Shape, 1) => Dim,
            (Model, 14) | (Graph, 16) | (Node, 9) | (Tensor, 13 | 16) | (ValueInfo, 4) => Pair,
            (Function, 14) | (Training, 3 | 4) | (Annotation, 2) => Pair,
            _ => return None,
        })
    }
}

/// Bytes that reading the model takes beyond those of the file, when they are too many. Stops where
/// the file is not well-formed; the decoder says what is wrong there.
pub(super) fn excess(file: &[u8]) -> Option<usize> {
    let mut need = 0;
    message(file, Kind::Model, 0, &mut need);
    (need > ALWAYS.saturating_add(file.len().saturating_mul(PER_BYTE))).then_some(need)
}

fn message(mut rest: &[u8], kind: Kind, depth: u32, need: &mut usize) -> Option<()> {
    // The decoder gives up at this depth, too.
    if depth > 100 {
        return None;
    }
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (body, tail) = rest.split_at_checked(length)?;
        rest = tail;
        if let Some(child) = kind.field(key >> 3).filter(|_| key & 7 == 2) {
            *need = need.saturating_add(child.size());
            match child {
                Kind::Text => {}
                // What these hold grows about as much as they do themselves.
                Kind::Devices => *need = need.saturating_add(length.saturating_mul(32)),
                _ => message(body, child, depth + 1, need)?,
            }
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let mut n = body.len();
        while n > 127 {
            out.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
        out.extend(body);
        out
    }

    #[test]
    fn empty_messages_by_the_million_are_too_many() {
        let attributes = [0x2a, 0].repeat(8_000_000);
        let file = with_header(0x3a, &with_header(0x0a, &attributes));
        let least = 8_000_000 * size_of::<pb::AttributeProto>();
        assert!(excess(&file).is_some_and(|n| n > least), "{:?}", excess(&file));
    }

    #[test]
    fn weights_count_for_nothing() {
        let weights = with_header(0x4a, &vec![0x2a; 1 << 20]);
        let file = with_header(0x3a, &with_header(0x2a, &weights));
        let mut need = 0;
        assert!(message(&file, Kind::Model, 0, &mut need).is_some());
        assert!(need < 4096, "{need}");
    }
}
