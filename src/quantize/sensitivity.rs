//! How much the channels of an activation matter to the ops that read it.
//!
//! An error in channel `c` reaches the result of a linear op scaled by the weights that read `c`. So
//! the expected squared error of a clipping threshold counts each channel by the sum of the squares
//! of these weights: outliers of a channel that hardly counts do not stretch the range of all.

use super::collect::{ChannelAxis, Channels};
use super::observe::sums_by_channel;
use super::placement::{Linear, linear};
use crate::ir::layout::Layout;
use crate::ir::{Graph, OpId};

/// Mean of the integer weights.
const MEAN: f64 = 256.0;

/// Channels of a value that these slots read; `None` when no linear op is among them or they do not
/// agree where the channels are.
pub(super) fn channels<'a>(
    g: &Graph,
    readers: impl Iterator<Item = &'a (OpId, usize)>,
) -> Option<Channels> {
    let mut sums: Option<(ChannelAxis, Vec<f64>)> = None;
    let mut others = 0.0;
    for (op, _) in readers {
        let Some(l) = linear(g, *op) else {
            others += 1.0;
            continue;
        };
        let (axis, squares) = (axis(g, &l)?, squares(g, &l)?);
        match &mut sums {
            None => sums = Some((axis, squares)),
            Some((a, sums)) if *a == axis && sums.len() == squares.len() => {
                sums.iter_mut().zip(squares).for_each(|(s, q)| *s += q);
            }
            Some(_) => return None,
        }
    }
    let (axis, mut sums) = sums?;
    // An op that is not linear, such as a residual Add, hands every channel on as it is.
    sums.iter_mut().for_each(|s| *s += others);
    let mean = sums.iter().sum::<f64>() / sums.len().max(1) as f64;
    let weight = |s: f64| if mean > 0.0 { (s / mean * MEAN).round() as u32 } else { 1 };
    Some(Channels { axis, weights: sums.into_iter().map(weight).collect() })
}

fn axis(g: &Graph, l: &Linear) -> Option<ChannelAxis> {
    let transposed = l.rule == "W3" && g.op(l.op).int_or("transA", 0) != 0;
    match l.rule {
        "W1" | "W2" => Some(ChannelAxis::Second),
        "W3" | "W4" if !transposed && l.input_slot == 0 => Some(ChannelAxis::Last),
        _ => None,
    }
}

/// For each input channel the sum of the squares of the weights that read it.
fn squares(g: &Graph, l: &Linear) -> Option<Vec<f64>> {
    let tensor = g.const_tensor(l.weight)?;
    let (dims, data) = (tensor.dims(), tensor.as_f32()?);
    let node = g.op(l.op);
    let group = usize::try_from(node.int_or("group", 1)).ok().filter(|n| *n > 0)?;
    let rank = dims.len();
    // The axis of the weight that meets the input's channels, and blocks of its first axis that
    // meet further ones.
    let (axis, blocks) = match l.rule {
        "W1" => (1, group),
        "W2" => (0, 1),
        "W3" => (usize::from(node.int_or("transB", 0) != 0), 1),
        _ => (rank.checked_sub(2)?, 1),
    };
    let layout = Layout::new(dims, Some(axis));
    let blocks = data.chunks_exact((data.len() / blocks).max(1));
    let sums = blocks.flat_map(|block| sums_by_channel(block, layout, |x| x * x)).collect();
    Some(sums)
}
