//! Random samples that a model can digest.

use std::collections::HashMap;

use super::{DataError, Source};
use crate::engine::{Feeds, InputSpec};
use crate::ir::{Atom, DType, Dim, Graph, Model, Slot, Tensor, Type, ValueId, element_count};
use crate::pass::infer_graph;

/// No random input takes more bytes than this.
const MAX_BYTES: usize = 1 << 30;

/// Seeded random samples: floats are normally distributed; integers stay in the range that the
/// model needs as far as its graph and the names of its inputs tell (rows of the table that a
/// `Gather` looks up, ones in masks). Sample `i` depends on the seed and `i` alone.
#[derive(Clone, Debug)]
pub struct Synthetic {
    inputs: Vec<Input>,
    count: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    fill: Fill,
    /// Some size is not the model's own.
    guessed: bool,
}

/// Sizes for open dims: sides of an image, and all others but the first axis.
struct Guess {
    height: i64,
    width: i64,
    other: i64,
}

/// Tried until shape inference has nothing against them.
const GUESSES: [Guess; 6] = [
    Guess { height: 128, width: 128, other: 16 },
    Guess { height: 48, width: 128, other: 128 },
    Guess { height: 32, width: 128, other: 512 },
    Guess { height: 64, width: 64, other: 64 },
    Guess { height: 224, width: 224, other: 8 },
    Guess { height: 256, width: 256, other: 1 },
];

#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Normal distribution.
    Normal,
    /// Integers below this.
    Below(u64),
    /// One number everywhere.
    Always(i64),
}

impl Synthetic {
    /// `count` samples. `dims` binds symbolic dims; an unbound first axis is 1;
    /// other unbound dims get usual sizes that shape inference has nothing against.
    ///
    /// # Errors
    /// When an input is no tensor of a known type.
    pub fn new(
        model: &Model,
        count: usize,
        seed: u64,
        dims: &[(String, i64)],
    ) -> Result<Synthetic, DataError> {
        let bound: HashMap<String, i64> = dims.iter().cloned().collect();
        let mut fewest: Option<(usize, Vec<Input>)> = None;
        for guess in &GUESSES {
            let (mut bound, named) = (bound.clone(), bound.len());
            let inputs = inputs(model, &mut bound, guess)?;
            // Nothing was guessed, so another guess would not help.
            let settled = bound.len() == named && inputs.iter().all(|i| !i.guessed);
            let wrong = if settled { 0 } else { contradictions(model, &inputs) };
            if fewest.as_ref().is_none_or(|(n, _)| wrong < *n) {
                fewest = Some((wrong, inputs));
            }
            if wrong == 0 {
                break;
            }
        }
        let inputs = fewest.map(|(_, inputs)| inputs).unwrap_or_default();
        Ok(Synthetic { inputs, count, seed })
    }
}

/// The inputs that need data, with sizes; symbols that are not bound yet get a size and keep it.
fn inputs(
    model: &Model,
    bound: &mut HashMap<String, i64>,
    guess: &Guess,
) -> Result<Vec<Input>, DataError> {
    let g = &model.graph;
    let mut inputs = Vec::new();
    for (spec, v) in InputSpec::of_graph(g).into_iter().zip(g.inputs()) {
        if spec.optional {
            continue;
        }
        let fail =
            |what: &str| DataError::Synthetic { name: spec.name.clone(), what: what.to_owned() };
        let dtype = spec.dtype.ok_or_else(|| fail("its element type is unknown"))?;
        let shape = spec.shape.as_ref().ok_or_else(|| fail("its rank is unknown"))?;
        let dims: Vec<usize> = sizes(shape, bound, guess).ok_or_else(|| {
            fail("its shape is no plain size; bind its symbols with --dim NAME=SIZE")
        })?;
        let bytes = element_count(&dims).and_then(|n| dtype.byte_len(n));
        if bytes.is_none_or(|b| b > MAX_BYTES) {
            return Err(fail("it is a string tensor, or too large"));
        }
        let fill = fill(g, *v, &spec.name, dtype);
        let guessed = shape.iter().any(|d| d.size().is_none());
        inputs.push(Input { name: spec.name, dtype, dims, fill, guessed });
    }
    Ok(inputs)
}

/// How often shape inference objects to the sizes.
fn contradictions(model: &Model, inputs: &[Input]) -> usize {
    let mut g = model.graph.clone();
    for input in inputs {
        if let Some(v) = g.find_value(&input.name) {
            let dims: Vec<Dim> = input.dims.iter().map(|&d| d.into()).collect();
            g.facts_mut(v).ty = Some(Type::tensor(input.dtype, Some(dims)));
        }
    }
    let mut count = 0;
    infer_graph(&mut g, model.default_opset(), &mut |_, _| count += 1);
    count
}

/// Sizes of an input.
fn sizes(shape: &[Dim], bound: &mut HashMap<String, i64>, guess: &Guess) -> Option<Vec<usize>> {
    let guess = |axis: usize, name: &str| {
        let name = name.to_lowercase();
        match axis {
            0 => 1,
            _ if name.contains("batch") => 1,
            // A cache that one more step fills up to the size of everything else.
            _ if name.contains("past") => guess.other - 1,
            1 if shape.len() == 4 => 3,
            2 if shape.len() == 4 => guess.height,
            3 if shape.len() == 4 => guess.width,
            _ => guess.other,
        }
    };
    for (axis, dim) in shape.iter().enumerate() {
        dim.for_each_symbol(&mut |atom| {
            if let Atom::Name(name) = atom {
                bound.entry(name.to_string()).or_insert_with(|| guess(axis, name));
            }
        });
    }
    let size = |(axis, dim): (usize, &Dim)| {
        let bind = |atom: &Atom| match atom {
            Atom::Name(name) => bound.get(&**name).copied().map(Dim::Known),
            Atom::Fresh(_) => Some(Dim::Known(guess(axis, ""))),
            Atom::Op(..) => None,
        };
        match dim {
            Dim::Unknown => usize::try_from(guess(axis, "")).ok(),
            _ => dim.substitute(&bind).size(),
        }
    };
    shape.iter().enumerate().map(size).collect()
}

/// How to fill an input so that the model can digest it.
fn fill(g: &Graph, v: ValueId, name: &str, dtype: DType) -> Fill {
    let name = name.to_lowercase();
    if dtype.is_float() {
        return Fill::Normal;
    }
    if name.contains("mask") {
        return Fill::Always(1);
    }
    if dtype == DType::Bool {
        return Fill::Below(2);
    }
    if name == "sr" || name.contains("sample_rate") || name.contains("sampling_rate") {
        return Fill::Always(16_000);
    }
    if let Some(rows) = looked_up(g, v, 0) {
        return Fill::Below(rows.max(1));
    }
    match dtype {
        DType::U8 | DType::I8 => Fill::Below(if dtype == DType::U8 { 256 } else { 128 }),
        _ => Fill::Below(2),
    }
}

/// The smallest number of rows among the tables that a `Gather` looks the value up in.
fn looked_up(g: &Graph, v: ValueId, depth: usize) -> Option<u64> {
    const CARRIERS: [&str; 10] = [
        "Cast",
        "Clip",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Where",
    ];
    const DEEPEST: usize = 8;
    if depth > DEEPEST {
        return None;
    }
    let mut rows: Option<u64> = None;
    for (op, slot) in g.uses(v) {
        let node = g.op(op);
        let found = match slot {
            Slot::Operand(1) if node.is("Gather") => g.operand(op, 0).and_then(|table| {
                let axis = usize::try_from(node.int_or("axis", 0)).ok()?;
                let shape = g.value(table).shape()?;
                shape.get(axis)?.size().map(|n| n as u64)
            }),
            Slot::Operand(_) if CARRIERS.contains(&node.op_type.as_str()) => {
                g.result(op, 0).and_then(|r| looked_up(g, r, depth + 1))
            }
            _ => None,
        };
        rows = match (rows, found) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    rows
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (i as u64 + 1).wrapping_mul(SPREAD));
        self.inputs
            .iter()
            .map(|input| {
                let tensor = input.make(&mut rng).ok_or_else(|| DataError::Synthetic {
                    name: input.name.clone(),
                    what: format!("{} has no random numbers", input.dtype),
                })?;
                Ok((input.name.clone(), tensor))
            })
            .collect()
    }

    fn is_synthetic(&self) -> bool {
        true
    }
}

impl Input {
    fn make(&self, rng: &mut fastrand::Rng) -> Option<Tensor> {
        let n = element_count(&self.dims)?;
        let number = |rng: &mut fastrand::Rng| match self.fill {
            Fill::Below(m) => rng.u64(..m) as i64,
            Fill::Always(v) => v,
            Fill::Normal => 0,
        };
        if let Fill::Normal = self.fill {
            let floats: Vec<f32> = (0..n).map(|_| normal(rng)).collect();
            return Tensor::from_f32(self.dtype, &self.dims, &floats);
        }
        let ints: Vec<i64> = (0..n).map(|_| number(rng)).collect();
        let bytes: Vec<u8> = match self.dtype.bits() {
            8 => ints.iter().map(|&v| v as u8).collect(),
            16 => ints.iter().flat_map(|&v| (v as i16).to_le_bytes()).collect(),
            32 => ints.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
            64 => ints.iter().flat_map(|&v| v.to_le_bytes()).collect(),
            _ => return None,
        };
        Tensor::new(self.dtype, self.dims.clone(), bytes.into()).ok()
    }
}

/// Box and Muller's method.
fn normal(rng: &mut fastrand::Rng) -> f32 {
    let (a, b) = (1.0 - rng.f32(), rng.f32());
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}
