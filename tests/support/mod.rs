//! What several test binaries share: fixtures in ONNX's textual syntax.

#![allow(dead_code)]

use std::fmt::Write;
use std::path::Path;

use lapidary::ir::{DType, Model};
use lapidary::onnx::text;

/// Reads a fixture. Lines such as
///
/// ```text
/// # fill: w seed=7
/// # fill: scale seed=1 min=0.5 max=2
/// # fill: b seed=2 scale=0.1
/// ```
///
/// make a value that is declared between `<` and `>`, as in `<float[64,3,3,3] w>`, a constant with
/// random elements. Floats are uniform in `-scale..scale`, by default one over the root of the
/// elements in a slice of axis 0; integers in `-8..=8` (unsigned: `0..=8`); `min` and `max` set
/// other bounds.
pub fn load_fixture(path: &Path) -> Model {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse_fixture(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads the text of a fixture, `# fill:` lines included.
pub fn parse_fixture(text: &str) -> Result<Model, String> {
    let mut full = text.to_owned();
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("# fill:") {
            full = fill(&full, &Fill::parse(rest)?)?;
        }
    }
    text::parse(&full).map_err(|e| e.to_string())
}

/// The text behind `# key:` in the header of a fixture, for each such line.
pub fn header<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        line.trim().strip_prefix('#')?.trim_start().strip_prefix(key)?.strip_prefix(':')
    };
    text.lines().filter_map(value).map(str::trim).collect()
}

struct Fill {
    name: String,
    seed: u64,
    scale: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Fill {
    fn parse(text: &str) -> Result<Fill, String> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("fill: no name")?.to_owned();
        let mut fill = Fill { name, seed: 0, scale: None, min: None, max: None };
        for word in words {
            let (key, value) = word.split_once('=').ok_or(format!("fill: {word:?}"))?;
            let number: f64 = value.parse().map_err(|_| format!("fill: {word:?}"))?;
            match key {
                "seed" => fill.seed = number as u64,
                "scale" => fill.scale = Some(number),
                "min" => fill.min = Some(number),
                "max" => fill.max = Some(number),
                _ => return Err(format!("fill: unknown {key:?}")),
            }
        }
        Ok(fill)
    }
}

/// The text with elements behind the declaration of a value.
fn fill(text: &str, fill: &Fill) -> Result<String, String> {
    let name = &fill.name;
    let declared = text.match_indices(name.as_str()).find_map(|(at, _)| {
        let end = at + name.len();
        let next = text[end..].trim_start().chars().next()?;
        let line = text[..at].rsplit('\n').next()?;
        let alone = text[..at].ends_with(' ') && matches!(next, ',' | '>') && !line.contains('#');
        let (dtype, dims) = declared_type(text[..at].trim_end())?;
        alone.then_some((end, dtype, dims))
    });
    let (end, dtype, dims) = declared.ok_or(format!("fill: no tensor {name:?} is declared"))?;
    Ok(format!("{} = {{{}}}{}", &text[..end], elements(fill, dtype, &dims)?, &text[end..]))
}

/// The tensor type that `text` ends with.
fn declared_type(text: &str) -> Option<(DType, Vec<usize>)> {
    let (head, dims) = match text.strip_suffix(']') {
        Some(open) => {
            let (head, dims) = open.rsplit_once('[')?;
            (head, dims.split(',').map(|d| d.trim().parse().ok()).collect::<Option<_>>()?)
        }
        None => (text, Vec::new()),
    };
    let word = head.trim_end().rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
    Some((DType::from_name(word)?, dims))
}

fn elements(fill: &Fill, dtype: DType, dims: &[usize]) -> Result<String, String> {
    let mut rng = fastrand::Rng::with_seed(fill.seed);
    let count: usize = dims.iter().product();
    let slice: usize = dims.iter().skip(1).product();
    let scale = fill.scale.unwrap_or(1.0 / (slice.max(1) as f64).sqrt());
    let (low, high) = match dtype {
        DType::Bool => (0.0, 1.0),
        DType::I4 | DType::I2 => (-2.0, 1.0),
        DType::U4 | DType::U2 => (0.0, 3.0),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0.0, 8.0),
        _ if dtype.is_int() => (-8.0, 8.0),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => (-scale, scale),
        _ => return Err(format!("fill: {dtype} is not supported")),
    };
    let (low, high) = (fill.min.unwrap_or(low), fill.max.unwrap_or(high));
    let mut out = String::new();
    for i in 0..count {
        let sep = if i == 0 { "" } else { ", " };
        let _ = if dtype.is_float() {
            write!(out, "{sep}{:?}", (low + rng.f64() * (high - low)) as f32)
        } else {
            write!(out, "{sep}{}", rng.i64(low as i64..=high as i64))
        };
    }
    Ok(out)
}
