//! What every version of every operator of the default domain takes and gives.
//!
//! The facts stand in `versions.txt`, which `scripts/op_versions.py` writes from the schemas of the
//! onnx package.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::ir::{AttrValue, Graph, OpId, Type, ValueId};

/// The newest version of the default operator set that is known.
pub const NEWEST_OPSET: i64 = 27;

/// One version of an operator.
#[derive(Clone, Debug)]
pub struct OpVersion {
    /// The version of the operator set that brought it.
    pub since: i64,
    /// The operator ended with this version.
    pub deprecated: bool,
    /// Operands.
    pub inputs: Vec<Formal>,
    /// Results.
    pub outputs: Vec<Formal>,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// An operand or result that an operator has.
#[derive(Clone, Debug)]
pub struct Formal {
    /// Those with the same variable have the same type.
    pub variable: &'static str,
    /// Names of the types it may have, sorted: `float`, `seq(int64)`.
    pub types: &'static [&'static str],
    /// How often it is there.
    pub count: Count,
}

/// How often an operand or result is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Once.
    One,
    /// Once or not at all.
    Optional,
    /// At least so often; all of the same type, or not.
    Many(usize, bool),
}

/// An attribute that an operator has.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// `int`, `floats`, `graph`, …
    pub kind: &'static str,
    /// It must be there.
    pub required: bool,
    /// What it is when it is not there.
    pub default: Option<AttrValue>,
}

impl OpVersion {
    /// The attribute with this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The operand in slot `i`.
    pub fn input(&self, i: usize) -> Option<&Formal> {
        at(&self.inputs, i)
    }

    /// The result in slot `i`.
    pub fn output(&self, i: usize) -> Option<&Formal> {
        at(&self.outputs, i)
    }

    /// Whether an op is as this version wants it: attributes, number and types of operands and
    /// results, as far as types are known.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn fits(&self, g: &Graph, id: OpId) -> Result<(), String> {
        let op = g.op(id);
        for attr in &op.attrs {
            match self.attribute(&attr.name) {
                None => return Err(format!("it has no attribute {}", attr.name)),
                Some(a) if !a.is_kind(&attr.value) => {
                    return Err(format!("its attribute {} is no {}", attr.name, a.kind));
                }
                Some(_) => {}
            }
        }
        let absent = |a: &&Attribute| a.required && op.attr(a.name).is_none();
        if let Some(a) = self.attributes.iter().find(absent) {
            return Err(format!("it needs the attribute {}", a.name));
        }
        let mut variables = HashMap::new();
        check(g, "operand", &self.inputs, &g.operands(id), &mut variables)?;
        check(g, "result", &self.outputs, &g.results(id), &mut variables)
    }
}

fn at(formals: &[Formal], i: usize) -> Option<&Formal> {
    let last = || formals.last().filter(|f| matches!(f.count, Count::Many(..)));
    formals.get(i).or_else(last)
}

fn check(
    g: &Graph,
    what: &str,
    formals: &[Formal],
    actual: &[Option<ValueId>],
    variables: &mut HashMap<&'static str, String>,
) -> Result<(), String> {
    for (i, v) in actual.iter().enumerate() {
        let Some(v) = v else { continue };
        let Some(formal) = at(formals, i) else {
            return Err(format!("it has no {what} number {i}"));
        };
        let Some(kind) = g.value(*v).ty.as_ref().and_then(kind_of) else { continue };
        if formal.types.binary_search(&kind.as_str()).is_err() {
            return Err(format!("its {what} number {i} cannot be {kind}"));
        }
        let alike = formal.types.len() > 1 && !matches!(formal.count, Count::Many(_, false));
        if alike && *variables.entry(formal.variable).or_insert_with(|| kind.clone()) != kind {
            let other = &variables[formal.variable];
            return Err(format!("{kind} and {other} do not go together"));
        }
    }
    for (i, formal) in formals.iter().enumerate() {
        let there = actual.get(i).is_some_and(Option::is_some);
        let enough = match formal.count {
            Count::One => there,
            Count::Optional => true,
            Count::Many(least, _) => actual.len() >= i + least,
        };
        // Results that nothing reads may be left out.
        if !enough && what == "operand" {
            return Err(format!("it needs {what} number {i}"));
        }
    }
    Ok(())
}

/// The name of a type without its shape.
fn kind_of(ty: &Type) -> Option<String> {
    Some(match ty {
        Type::Tensor(t) => t.dtype?.name().to_owned(),
        Type::Sequence(Some(t)) => format!("seq({})", kind_of(t)?),
        Type::Optional(Some(t)) => format!("optional({})", kind_of(t)?),
        Type::Denoted(_, t) => kind_of(t)?,
        _ => return None,
    })
}

impl Attribute {
    fn is_kind(&self, value: &AttrValue) -> bool {
        let kind = match value {
            AttrValue::Float(_) => "float",
            AttrValue::Int(_) => "int",
            AttrValue::Str(_) => "string",
            AttrValue::Tensor(_) => return matches!(self.kind, "tensor" | "sparse_tensor"),
            AttrValue::Graph(_) => "graph",
            AttrValue::Type(_) => "type_proto",
            AttrValue::Floats(_) => "floats",
            AttrValue::Ints(_) => "ints",
            AttrValue::Strs(_) => "strings",
            AttrValue::Tensors(_) => "tensors",
            AttrValue::Graphs(_) => "graphs",
            AttrValue::Types(_) => "type_protos",
            AttrValue::Ref(..) => return true,
        };
        kind == self.kind
    }
}

/// The version of an operator that holds in version `opset` of the default operator set; `None` for
/// operators that it does not have.
pub fn version_of(op_type: &str, opset: i64) -> Option<&'static OpVersion> {
    let versions = VERSIONS.get(op_type)?;
    versions.iter().rev().find(|v| v.since <= opset).filter(|v| !v.deprecated)
}

/// All versions of an operator, oldest first.
pub fn versions(op_type: &str) -> &'static [OpVersion] {
    VERSIONS.get(op_type).map_or(&[], Vec::as_slice)
}

static VERSIONS: LazyLock<HashMap<&'static str, Vec<OpVersion>>> =
    LazyLock::new(|| read(include_str!("versions.txt")));

fn read(text: &'static str) -> HashMap<&'static str, Vec<OpVersion>> {
    let mut sets: Vec<&'static [&'static str]> = Vec::new();
    let mut versions: HashMap<&'static str, Vec<OpVersion>> = HashMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if line.starts_with('=') {
            let types: Vec<&str> = line.split(' ').skip(1).collect();
            sets.push(types.leak());
        } else if let [name, since, ended, inputs, outputs, attributes] =
            line.split('|').collect::<Vec<_>>()[..]
        {
            versions.entry(name).or_default().push(OpVersion {
                since: since.parse().unwrap_or(1),
                deprecated: !ended.is_empty(),
                inputs: formals(inputs, &sets),
                outputs: formals(outputs, &sets),
                attributes: attributes.split(';').filter_map(attribute).collect(),
            });
        }
    }
    versions
}

fn formals(text: &'static str, sets: &[&'static [&'static str]]) -> Vec<Formal> {
    let parse = |text: &'static str| {
        let (variable, rest) = text.split_once(':')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let types = sets.get(rest[..digits].parse::<usize>().ok()?)?;
        let mark = &rest[digits..];
        let count = match mark.chars().next() {
            None => Count::One,
            Some('?') => Count::Optional,
            Some(c) => Count::Many(mark[1..].parse().unwrap_or(0), c == '*'),
        };
        Some(Formal { variable, types, count })
    };
    text.split(',').filter_map(parse).collect()
}

fn attribute(text: &'static str) -> Option<Attribute> {
    let (name, rest) = text.split_once(':')?;
    let (kind, default) = match rest.split_once('=') {
        Some((kind, json)) => (kind, default(kind, json)),
        None => (rest, None),
    };
    let plain = kind.trim_end_matches('!');
    Some(Attribute { name, kind: plain, required: plain != kind, default })
}

fn default(kind: &str, json: &str) -> Option<AttrValue> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let text = |v: &serde_json::Value| v.as_str().map(|s| Bytes::copy_from_slice(s.as_bytes()));
    Some(match kind {
        "int" => AttrValue::Int(value.as_i64()?),
        "float" => AttrValue::Float(value.as_f64()? as f32),
        "string" => AttrValue::Str(text(&value)?),
        "ints" => AttrValue::Ints(value.as_array()?.iter().filter_map(|v| v.as_i64()).collect()),
        "strings" => AttrValue::Strs(value.as_array()?.iter().filter_map(text).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_with_a_schema_has_versions() {
        for s in crate::ops::schemas() {
            assert!(!versions(s.op_type).is_empty(), "{}", s.op_type);
        }
        let newest = VERSIONS.values().flatten().map(|v| v.since).max();
        assert_eq!(newest, Some(NEWEST_OPSET));
    }

    #[test]
    fn types_are_sorted() {
        let formals = VERSIONS.values().flatten().flat_map(|v| v.inputs.iter().chain(&v.outputs));
        for f in formals {
            assert!(f.types.is_sorted() && !f.types.is_empty(), "{:?}", f.types);
        }
        let identity = version_of("Identity", 16).expect("is there");
        for kind in ["float", "seq(float)", "optional(seq(int64))"] {
            assert!(identity.inputs[0].types.binary_search(&kind).is_ok(), "{kind}");
        }
    }

    #[test]
    fn a_version_says_what_it_takes() {
        let old = version_of("Clip", 10).expect("is there");
        assert_eq!((old.since, old.inputs.len()), (6, 1));
        assert!(matches!(old.attribute("min").and_then(|a| a.default.as_ref()),
            Some(AttrValue::Float(v)) if *v < -1e38));
        let new = version_of("Clip", 13).expect("is there");
        assert!(new.attributes.is_empty() && new.inputs[1].count == Count::Optional);
        assert!(new.inputs[0].types.contains(&"bfloat16"));
        assert!(version_of("Upsample", 10).is_none() && version_of("Gelu", 19).is_none());
        let concat = version_of("Concat", 13).expect("is there");
        assert_eq!(concat.input(7).map(|f| f.count), Some(Count::Many(1, true)));
    }
}
