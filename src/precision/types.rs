//! Which slots of which operators take which float types.
//!
//! `types.tsv` is made by `scripts/float_types.py` from the operators' definitions.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ir::DType;

/// What the slots of an operator take in one version.
pub(super) struct Row {
    version: i64,
    operands: &'static [u8],
    results: &'static [u8],
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Row>>> = LazyLock::new(|| {
    let mut table: HashMap<_, Vec<Row>> = HashMap::new();
    for line in include_str!("types.tsv").lines().skip(1) {
        let cells: Vec<&'static str> = line.split('\t').collect();
        let [op, version, operands, results] = cells[..] else { continue };
        let version = version.parse().unwrap_or(i64::MAX);
        let (operands, results) = (operands.as_bytes(), results.as_bytes());
        table.entry(op).or_default().push(Row { version, operands, results });
    }
    table
});

/// What the operator takes in a version of the default operator set.
pub(super) fn row(op_type: &str, opset: i64) -> Option<&'static Row> {
    TABLE.get(op_type)?.iter().rev().find(|r| r.version <= opset)
}

/// The version of the operator set from which on the operator takes `half` wherever it takes
/// float32 in its newest version; `opset` when that is so already, or never.
pub(super) fn needs(op_type: &str, opset: i64, half: DType) -> i64 {
    let Some(rows) = TABLE.get(op_type) else { return opset };
    // Other operators may just stay in float32.
    if half == DType::F16 && !["QuantizeLinear", "DequantizeLinear"].contains(&op_type) {
        return opset;
    }
    let takes = |r: &&Row| r.operand(0, half).max(r.operand(1, half)) == Takes::Half;
    match row(op_type, opset).filter(takes) {
        Some(_) => opset,
        None => rows.iter().find(|r| r.version > opset && takes(r)).map_or(opset, |r| r.version),
    }
}

/// Whether a slot takes a float type of 16 bits in the place of float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Takes {
    /// It takes no tensors, or is not known.
    Unknown,
    /// It takes no float32 either.
    NoFloat,
    /// It takes float32 only.
    FloatOnly,
    /// It takes both.
    Half,
}

impl Row {
    pub(super) fn operand(&self, slot: usize, half: DType) -> Takes {
        takes(self.operands, slot, half)
    }

    pub(super) fn result(&self, slot: usize, half: DType) -> Takes {
        takes(self.results, slot, half)
    }
}

fn takes(letters: &[u8], slot: usize, half: DType) -> Takes {
    let letter = match letters {
        [.., last, b'+'] if slot + 2 >= letters.len() => Some(last),
        _ => letters.get(slot),
    };
    match letter {
        Some(b'a') => Takes::Half,
        Some(b'h') if half == DType::F16 => Takes::Half,
        Some(b'b') if half == DType::BF16 => Takes::Half,
        Some(b'f' | b'h' | b'b') => Takes::FloatOnly,
        Some(b'n') => Takes::NoFloat,
        _ => Takes::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots() {
        let resize = row("Resize", 13).expect("in the table");
        assert_eq!(resize.operand(0, DType::F16), Takes::Half);
        assert_eq!(resize.operand(2, DType::F16), Takes::FloatOnly);
        assert_eq!(resize.operand(3, DType::F16), Takes::NoFloat);
        let concat = row("Concat", 13).expect("in the table");
        assert_eq!(concat.operand(7, DType::BF16), Takes::Half);
        assert_eq!(row("Conv", 21).expect("row").operand(1, DType::BF16), Takes::FloatOnly);
        assert!(row("Gelu", 17).is_none());
    }

    #[test]
    fn operator_sets() {
        assert_eq!(needs("Conv", 17, DType::BF16), 22);
        assert_eq!(needs("Conv", 17, DType::F16), 17);
        assert_eq!(needs("MatMul", 17, DType::BF16), 17);
        assert_eq!(needs("QuantizeLinear", 13, DType::F16), 19);
        assert_eq!(needs("DequantizeLinear", 13, DType::F16), 19);
        assert_eq!(needs("NonMaxSuppression", 13, DType::BF16), 13);
    }
}
