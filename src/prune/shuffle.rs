//! Channel shuffles as `Gather`.
//!
//! A Reshape into rows and columns keeps its rows equally long, so that a shuffle made of it loses the same
//! columns of all rows: channels that meet in one column go together, and after a few shuffles all of
//! them do. A `Gather` takes whatever indices there are.

use crate::ir::{Graph, Op, OpId, Tensor, ValueId};

/// A Reshape into rows and columns, a Transpose of the two, and a Reshape back.
struct Shuffle {
    ops: [OpId; 3],
    input: ValueId,
    output: ValueId,
    rows: usize,
    columns: usize,
}

/// Writes every channel shuffle of the graph as a `Gather`; true if there was one.
pub(super) fn unravel(g: &mut Graph) -> bool {
    let found: Vec<Shuffle> = g.order().into_iter().filter_map(|op| Shuffle::of(g, op)).collect();
    for s in &found {
        let row = |j: usize| (0..s.rows).map(move |i| (i * s.columns + j) as i64);
        let indices: Vec<i64> = (0..s.columns).flat_map(row).collect();
        let indices = g.add_const("shuffle", Tensor::vector(&indices));
        let [first, transpose, last] = s.ops;
        g.remove_op(last);
        let gather = Op::new("Gather").with("axis", 1);
        g.add_op(gather, &[Some(s.input), Some(indices)], &[Some(s.output)], Some(first));
        g.remove_op(transpose);
        g.remove_op(first);
    }
    !found.is_empty()
}

impl Shuffle {
    fn of(g: &Graph, last: OpId) -> Option<Shuffle> {
        let made = |op: OpId, kind: &str| {
            let value = g.operand(op, 0)?;
            let maker = g.producer_op(value)?;
            (g.op(maker).is(kind) && g.sole_use(value).is_some()).then_some((maker, value))
        };
        if !g.op(last).is("Reshape") {
            return None;
        }
        let (transpose, _) = made(last, "Transpose")?;
        let (first, grid) = made(transpose, "Reshape")?;
        let (input, output) = (g.operand(first, 0)?, g.result(last, 0)?);
        // Sizes behind the batch.
        let sizes = |v: ValueId| -> Option<Vec<usize>> {
            g.value(v).shape()?.get(1..)?.iter().map(|d| d.size()).collect()
        };
        let (before, split, after) = (sizes(input)?, sizes(grid)?, sizes(output)?);
        let [rows, columns, rest @ ..] = &split[..] else { return None };
        let swapped = g.op(transpose).ints("perm")?;
        let plain = (0i64..).zip(swapped).all(|(i, p)| {
            let from = match i {
                1 => 2,
                2 => 1,
                _ => i,
            };
            *p == from
        });
        let whole = before == after && before.first() == Some(&(rows * columns));
        (plain && whole && before[1..] == *rest).then_some(Shuffle {
            ops: [first, transpose, last],
            input,
            output,
            rows: *rows,
            columns: *columns,
        })
    }
}
