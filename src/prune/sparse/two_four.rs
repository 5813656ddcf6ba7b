//! The 2:4 pattern: which weights may have it, and which elements go.

use super::sites::Site;
use crate::ir::{Graph, OpId, Tensor};

/// Why a weight gets no 2:4 pattern. The rules of width, of the first layer and of the last do not
/// hold for a weight that the user lists.
pub(super) fn eligible(g: &Graph, site: &Site, listed: bool) -> Result<(), String> {
    let Some(t) = g.const_tensor(site.weight) else { return Err("it is no constant".into()) };
    let Some(axis) = site.axis else { return Err("its readers sum over different axes".into()) };
    for &(op, _) in &site.readers {
        let node = g.op(op);
        if node.is("ConvTranspose") {
            return Err("TensorRT has no 2:4 kernels for ConvTranspose".into());
        }
        if node.is("Conv") && node.int_or("group", 1) != 1 {
            return Err("TensorRT has no 2:4 kernels for grouped convolutions".into());
        }
    }
    let (inputs, outputs) = (t.dims()[axis], results(t, site, axis));
    if !inputs.is_multiple_of(4) {
        return Err(format!("{inputs} inputs are no multiple of 4"));
    }
    if t.dtype() == crate::ir::DType::F64 {
        return Err("TensorRT has no 2:4 kernels for double".into());
    }
    if listed {
        return Ok(());
    }
    if !inputs.is_multiple_of(16) || !outputs.is_multiple_of(8) {
        return Err(format!(
            "{inputs} inputs and {outputs} outputs: sparse kernels want multiples of 16 and 8"
        ));
    }
    let input = |op: OpId, slot: usize| g.operand(op, 1 - slot).is_some_and(|v| g.is_input(v));
    if site.readers.iter().any(|&(op, slot)| input(op, slot)) {
        return Err("first layer".into());
    }
    if site.readers.iter().any(|r| is_last(g, r.0)) {
        return Err("last layer".into());
    }
    Ok(())
}

/// Number of results that the op computes side by side.
fn results(t: &Tensor, site: &Site, axis: usize) -> usize {
    let conv = site.readers.iter().any(|_| t.rank() > 2 && axis == 1);
    match conv {
        true => t.dims()[0],
        false => t.len() / t.dims()[axis].max(1),
    }
}

/// Between its result and an output of the graph there is nothing that computes much.
fn is_last(g: &Graph, op: OpId) -> bool {
    const LIGHT: [&str; 9] = [
        "Add",
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "Flatten",
        "Reshape",
        "Identity",
        "Resize",
        "Squeeze",
    ];
    let mut at = op;
    loop {
        let Some(result) = g.result(at, 0) else { return false };
        if g.is_output(result) {
            return true;
        }
        match g.sole_use(result) {
            Some((next, _)) if LIGHT.contains(&g.op(next).op_type.as_str()) => at = next,
            _ => return false,
        }
    }
}

/// Calls `f` with the positions of every four consecutive elements along an axis.
fn blocks(dims: &[usize], axis: usize, mut f: impl FnMut([usize; 4])) {
    let n = dims[axis];
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    for o in 0..outer {
        for block in 0..n / 4 {
            for i in 0..inner {
                f([0, 1, 2, 3].map(|k| (o * n + 4 * block + k) * inner + i));
            }
        }
    }
}

/// Marks in every block the two smallest magnitudes; of equal ones the lower index goes, as
/// `polygraphy surgeon prune` has it. `None` when the axis is no multiple of four.
pub(super) fn mask(magnitudes: &[f32], dims: &[usize], axis: usize) -> Option<Vec<bool>> {
    if !dims.get(axis)?.is_multiple_of(4) {
        return None;
    }
    let mut gone = vec![false; magnitudes.len()];
    blocks(dims, axis, |mut at| {
        at.sort_by(|a, b| magnitudes[*a].total_cmp(&magnitudes[*b]).then(a.cmp(b)));
        gone[at[0]] = true;
        gone[at[1]] = true;
    });
    Some(gone)
}

/// Sum of the magnitudes that 2:4 leaves in the order that the weight has, relative to all.
pub(super) fn kept_share(t: &Tensor, axis: Option<usize>) -> f64 {
    let Some((data, axis)) = t.to_f32().zip(axis) else { return 1.0 };
    let magnitudes: Vec<f32> = data.iter().map(|v| v.abs()).collect();
    let Some(gone) = mask(&magnitudes, t.dims(), axis) else { return 1.0 };
    let sum = |all: bool| -> f64 {
        let of = magnitudes.iter().zip(&gone).filter(|(_, gone)| all || !**gone);
        of.map(|(v, _)| f64::from(*v)).sum()
    };
    if sum(true) > 0.0 { sum(false) / sum(true) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_run_along_input_channels_at_each_tap() {
        // One result, four channels, two taps: the taps are pruned apart.
        let w = [1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0];
        let gone = mask(&w, &[1, 4, 2], 1).expect("a multiple of four");
        assert_eq!(gone, [true, false, true, false, false, true, false, true]);
        assert_eq!(mask(&w, &[4, 2], 0).expect("as MatMul has it"), gone);
    }

    #[test]
    fn of_equal_magnitudes_the_lower_index_goes() {
        let gone = mask(&[1.0, 1.0, 1.0, 1.0], &[1, 4], 1).expect("a multiple of four");
        assert_eq!(gone, [true, true, false, false]);
        assert_eq!(mask(&[1.0; 6], &[1, 6], 1), None);
    }
}
