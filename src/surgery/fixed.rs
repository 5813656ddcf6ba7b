//! Inputs that get one value for good.

use std::str::FromStr;

use super::dims::settle;
use super::{SurgeryError, bad, find};
use crate::ir::{DType, Dim, Element, Model, Tensor, Type, element_count};
use crate::passes::freeze_inputs::CONSTANTS_ALONE;

const SET_INPUT: &str = "--set-input";

/// Makes constants of inputs: of one number, which fills the input, or of as many as it has elements.
pub(super) fn set(
    m: &mut Model,
    entries: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    for entry in entries {
        let refuse = |what: String| bad(SET_INPUT, entry, what);
        let pair = entry.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, list) = pair.ok_or_else(|| refuse("write it as INPUT=VALUE".to_owned()))?;
        let v = find(&m.graph, name)?;
        if !m.graph.inputs().contains(&v) {
            return Err(refuse(format!("{name:?} is no input")));
        }
        let ty = m.graph.value(v).ty.as_ref().and_then(Type::as_tensor);
        let dtype = ty.and_then(|t| t.dtype).ok_or_else(|| refuse("it is no tensor".to_owned()))?;
        let items: Vec<&str> = list.split(',').map(str::trim).collect();
        let shape = ty.and_then(|t| t.shape.as_deref()).ok_or_else(|| {
            refuse("its shape is not known; give it with --input-shape first".to_owned())
        })?;
        let dims = dims_for(shape, items.len()).map_err(refuse)?;
        let count = element_count(&dims).filter(|n| *n <= LARGEST);
        let count = count.ok_or_else(|| refuse("it has too many elements".to_owned()))?;
        let filled: Vec<&str> = items.iter().copied().cycle().take(count).collect();
        let data = tensor(dtype, &dims, &filled).map_err(refuse)?;
        m.graph.remove_input(v);
        m.graph.set_data(v, data);
        m.ir_version = m.ir_version.max(CONSTANTS_ALONE);
        changes.push(format!("input {name} is the constant {list}"));
    }
    if !entries.is_empty() {
        settle(m, false);
    }
    Ok(())
}

/// Elements that one number may be repeated to: more are a weight, not a setting.
const LARGEST: usize = 1 << 24;

/// The sizes of a constant of `n` given elements; one fills any shape that is known.
fn dims_for(shape: &[Dim], n: usize) -> Result<Vec<usize>, String> {
    let known: Option<Vec<usize>> = shape.iter().map(Dim::size).collect();
    match (known, shape) {
        (Some(dims), _) if n == 1 || element_count(&dims) == Some(n) => Ok(dims),
        (Some(dims), _) => Err(format!("its shape is {dims:?}, and {n} values are given")),
        (None, [_]) => Ok(vec![n]),
        _ => Err("its shape is open; fix it with --input-shape or --set-dim first".to_owned()),
    }
}

fn tensor(dtype: DType, dims: &[usize], items: &[&str]) -> Result<Tensor, String> {
    fn of<T: Element + FromStr>(dims: &[usize], items: &[&str]) -> Result<Tensor, String> {
        Ok(Tensor::of(dims, &parsed::<T>(items, T::DTYPE)?))
    }
    match dtype {
        DType::F32 => of::<f32>(dims, items),
        DType::F64 => of::<f64>(dims, items),
        DType::I8 => of::<i8>(dims, items),
        DType::I16 => of::<i16>(dims, items),
        DType::I32 => of::<i32>(dims, items),
        DType::I64 => of::<i64>(dims, items),
        DType::U8 => of::<u8>(dims, items),
        DType::U16 => of::<u16>(dims, items),
        DType::U32 => of::<u32>(dims, items),
        DType::U64 => of::<u64>(dims, items),
        DType::F16 | DType::BF16 => {
            let data = parsed::<f32>(items, dtype)?;
            Tensor::from_f32(dtype, dims, &data).ok_or_else(|| no_values(dtype))
        }
        DType::Bool => {
            let truth = |s: &&str| match *s {
                "1" | "true" => Ok(1),
                "0" | "false" => Ok(0),
                other => Err(format!("{other:?} is no bool: write true or false")),
            };
            let bytes: Vec<u8> = items.iter().map(truth).collect::<Result<_, _>>()?;
            Tensor::new(dtype, dims.to_vec(), bytes.into()).map_err(|e| e.to_string())
        }
        DType::Str => {
            let bytes = items.iter().map(|s| s.as_bytes().to_vec().into()).collect();
            Tensor::strings(dims.to_vec(), bytes).map_err(|e| e.to_string())
        }
        _ => Err(no_values(dtype)),
    }
}

fn no_values(dtype: DType) -> String {
    format!("values of type {} cannot be written here", dtype.name())
}

fn parsed<T: FromStr>(items: &[&str], dtype: DType) -> Result<Vec<T>, String> {
    let one = |s: &&str| s.parse().map_err(|_| format!("{s:?} is no {}", dtype.name()));
    items.iter().map(one).collect()
}
