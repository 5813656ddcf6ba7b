//! Models, functions, graphs and nodes.

use super::super::pb;
use super::cursor::{Cursor, Parsed};
use super::parse_value::{self, Data};

/// The whole text: a header, the main graph, functions.
pub(super) fn model(c: &mut Cursor) -> Parsed<pb::ModelProto> {
    let mut m = pb::ModelProto::default();
    if c.eat(b'<') {
        c.list(b'>', |c| header(c, &mut m))?;
    }
    m.graph = Some(graph(c)?);
    while !c.at_end() {
        m.functions.push(function(c)?);
    }
    Ok(m)
}

fn key<'a>(c: &mut Cursor<'a>) -> Parsed<&'a str> {
    let key = c.expect_word("a key such as `ir_version`")?;
    c.expect(b':')?;
    Ok(key)
}

fn header(c: &mut Cursor, m: &mut pb::ModelProto) -> Parsed<()> {
    match key(c)? {
        "ir_version" => m.ir_version = Some(c.int()?),
        "opset_import" => m.opset_import = opsets(c)?,
        "producer_name" => m.producer_name = Some(c.string()?),
        "producer_version" => m.producer_version = Some(c.string()?),
        "domain" => m.domain = Some(c.string()?),
        "model_version" => m.model_version = Some(c.int()?),
        "doc_string" => m.doc_string = Some(c.string()?),
        "metadata_props" => m.metadata_props = parse_value::pairs(c)?,
        other => return c.fail(format!("a model has no `{other}`")),
    }
    Ok(())
}

fn opsets(c: &mut Cursor) -> Parsed<Vec<pb::OperatorSetIdProto>> {
    c.expect(b'[')?;
    c.list(b']', |c| {
        let domain = Some(c.string()?);
        c.expect(b':')?;
        Ok(pb::OperatorSetIdProto { domain, version: Some(c.int()?) })
    })
}

fn function(c: &mut Cursor) -> Parsed<pb::FunctionProto> {
    let mut f = pb::FunctionProto::default();
    if c.eat(b'<') {
        c.list(b'>', |c| {
            match key(c)? {
                "opset_import" => f.opset_import = opsets(c)?,
                "domain" => f.domain = Some(c.string()?),
                "overload" => f.overload = Some(c.string()?),
                "doc_string" => f.doc_string = Some(c.string()?),
                other => return c.fail(format!("a function has no `{other}`")),
            }
            Ok(())
        })?;
    }
    f.name = Some(c.expect_name("the name of a function")?);
    if c.eat(b'<') {
        c.list(b'>', |c| {
            let name = c.expect_name("the name of an attribute")?;
            match c.peek() {
                b':' | b'=' => f.attribute_proto.push(parse_value::attr(c, name)?),
                _ => f.attribute.push(name),
            }
            Ok(())
        })?;
    }
    f.input = parameters(c, &mut f.value_info)?;
    c.arrow()?;
    f.output = parameters(c, &mut f.value_info)?;
    if c.eat(b'<') {
        f.value_info.extend(c.list(b'>', value_info)?);
    }
    f.node = nodes(c)?;
    Ok(f)
}

/// Names of a function's inputs or outputs; the types that some have go to `infos`.
fn parameters(c: &mut Cursor, infos: &mut Vec<pb::ValueInfoProto>) -> Parsed<Vec<String>> {
    c.expect(b'(')?;
    c.list(b')', |c| {
        let info = value_info(c)?;
        let name = info.name().to_owned();
        if info.r#type.is_some() {
            infos.push(info);
        }
        Ok(name)
    })
}

fn value_info(c: &mut Cursor) -> Parsed<pb::ValueInfoProto> {
    let r#type = match parse_value::at_type(c) {
        true => Some(Box::new(parse_value::ty(c)?)),
        false => None,
    };
    let name = Some(c.expect_name("a type or the name of a value")?);
    Ok(pb::ValueInfoProto { name, r#type, ..Default::default() })
}

/// A graph from its name on.
pub(super) fn graph(c: &mut Cursor) -> Parsed<pb::GraphProto> {
    let name = c.expect_name("the name of a graph")?;
    graph_named(c, name)
}

/// A graph from behind its name on.
pub(super) fn graph_named(c: &mut Cursor, name: String) -> Parsed<pb::GraphProto> {
    let mut g = pb::GraphProto { name: Some(name), ..Default::default() };
    if c.eat(b'(') {
        c.list(b')', |c| {
            let info = value_info(c)?;
            if c.eat(b'=') {
                initializer(c, &info, &mut g)?;
            }
            g.input.push(info);
            Ok(())
        })?;
    }
    c.arrow()?;
    c.expect(b'(')?;
    g.output = c.list(b')', value_info)?;
    if c.eat(b'<') {
        c.list(b'>', |c| {
            let info = value_info(c)?;
            match c.eat(b'=') {
                true => initializer(c, &info, &mut g),
                false => {
                    g.value_info.push(info);
                    Ok(())
                }
            }
        })?;
    }
    g.node = nodes(c)?;
    Ok(g)
}

fn initializer(c: &mut Cursor, info: &pb::ValueInfoProto, g: &mut pb::GraphProto) -> Parsed<()> {
    let Some(ty) = &info.r#type else {
        return c.fail(format!("initializer {:?} has no type", info.name()));
    };
    match parse_value::tensor(c, ty, info.name().to_owned())? {
        Data::Dense(t) => g.initializer.push(t),
        Data::Sparse(t) => g.sparse_initializer.push(t),
    }
    Ok(())
}

fn nodes(c: &mut Cursor) -> Parsed<Vec<pb::NodeProto>> {
    c.expect(b'{')?;
    let mut out = Vec::new();
    while !c.eat(b'}') {
        out.push(node(c)?);
    }
    Ok(out)
}

fn node(c: &mut Cursor) -> Parsed<pb::NodeProto> {
    let mut n = pb::NodeProto::default();
    if c.eat(b'[') {
        n.name = c.name()?;
        c.expect(b']')?;
    }
    n.output = names(c)?;
    if !c.eat(b'=') {
        return c.expected("`=` of a node, or `}`");
    }
    let (domain, op_type) = c.dotted("an operator")?;
    n.op_type = Some(op_type);
    n.domain = Some(domain).filter(|d| !d.is_empty());
    if c.eat(b':') {
        n.overload = Some(c.expect_name("an overload")?);
    }
    n.attribute = attributes(c)?;
    c.expect(b'(')?;
    n.input = names(c)?;
    c.expect(b')')?;
    if n.attribute.is_empty() {
        n.attribute = attributes(c)?;
    }
    Ok(n)
}

/// Names separated by commas, where one may be missing; a comma at the end adds none.
fn names(c: &mut Cursor) -> Parsed<Vec<String>> {
    let mut out = Vec::new();
    loop {
        match c.name()? {
            Some(name) => {
                out.push(name);
                if !c.eat(b',') {
                    return Ok(out);
                }
            }
            None if c.eat(b',') => out.push(String::new()),
            None => return Ok(out),
        }
    }
}

fn attributes(c: &mut Cursor) -> Parsed<Vec<pb::AttributeProto>> {
    if !c.eat(b'<') {
        return Ok(Vec::new());
    }
    c.list(b'>', |c| {
        let name = c.expect_name("the name of an attribute")?;
        parse_value::attr(c, name)
    })
}
