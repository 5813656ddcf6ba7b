//! Charts of what steps did.

use std::collections::BTreeMap;

use crate::ir::{Graph, Model, OpId};
use crate::ops::{self, Quant};
use crate::prune::{ChannelNorms, CurvePoint, GroupSensitivity};
use crate::quantize::TensorReport;
use crate::report::chart::{Chart, Data, Row, Unit};
use crate::report::inspect::{Layer, layers};
use crate::verify::LayerNoise;
use crate::verify::OutputDiff;

/// Bytes and multiply-accumulates of each layer, before and after. Layers are matched by name;
/// `dims` as in [`summarize`](crate::report::inspect::summarize).
pub fn by_layer(before: &Model, after: &Model, dims: &[(String, i64)]) -> Vec<Chart> {
    let (a, b) = (layers(before, dims), layers(after, dims));
    let macs = |l: &Layer| l.macs.as_ref().and_then(|m| m.parse().ok());
    let size = rows(&a, &b, &|l| Some(l.bytes as f64));
    let macs = rows(&a, &b, &macs);
    let chart = |id: &str, title: &str, unit, rows: Vec<Row>| {
        let data = Data::Layers { unit, rows };
        let chart = Chart { id: id.to_owned(), title: title.to_owned(), data };
        matches!(&chart.data, Data::Layers { rows, .. } if !rows.is_empty()).then_some(chart)
    };
    let size = chart("size", "Bytes of weights by layer", Unit::Bytes, size);
    let macs = chart("macs", "Multiply-accumulates by layer", Unit::Macs, macs);
    size.into_iter().chain(macs).collect()
}

/// A row for each layer of either model that has a number, in the order of the result, with the
/// layers that it lacks behind the ones that they followed.
fn rows(before: &[Layer], after: &[Layer], number: &dyn Fn(&Layer) -> Option<f64>) -> Vec<Row> {
    let new: BTreeMap<&str, &Layer> = after.iter().map(|l| (&l.name[..], l)).collect();
    let old: BTreeMap<&str, &Layer> = before.iter().map(|l| (&l.name[..], l)).collect();
    let mut rows = Vec::new();
    let mut add = |name: &str| {
        let of = |side: &BTreeMap<&str, &Layer>| side.get(name).and_then(|l| number(l));
        let (before, after) = (of(&old), of(&new));
        if before.is_some() || after.is_some() {
            rows.push(Row { name: name.to_owned(), before, after });
        }
    };
    let mut rest = before.iter().peekable();
    for layer in after {
        if old.contains_key(&layer.name[..]) {
            while let Some(gone) = rest.next_if(|l| l.name != layer.name) {
                if !new.contains_key(&gone.name[..]) {
                    add(&gone.name);
                }
            }
            rest.next();
        }
        add(&layer.name);
    }
    rest.filter(|l| !new.contains_key(&l.name[..])).for_each(|l| add(&l.name));
    rows
}

/// Norms of the channels of pruned layers.
pub fn channels(layers: &[ChannelNorms]) -> Vec<Chart> {
    let chart = |c: &ChannelNorms| Chart {
        id: format!("channels:{}", c.layer),
        title: format!("{}: {} → {} channels", c.layer, c.kept.len(), count_kept(c)),
        data: Data::Channels {
            before: c.before.clone(),
            kept: c.kept.clone(),
            after: c.after.clone(),
            norm: c.norm,
        },
    };
    layers.iter().map(chart).collect()
}

fn count_kept(c: &ChannelNorms) -> usize {
    c.kept.iter().filter(|k| **k).count()
}

/// L1 norms of the channels of float layers that have fewer of them in the result, for changes of
/// which nobody kept a record. Layers are matched by name.
pub fn narrowed(before: &Model, after: &Model) -> Vec<Chart> {
    let (a, b) = (&before.graph, &after.graph);
    let old: BTreeMap<&str, OpId> = a.ops().map(|op| (&a.op(op).name[..], op)).collect();
    let chart = |op: OpId| {
        let name = &b.op(op).name;
        let twin = old.get(&name[..]).filter(|_| !name.is_empty())?;
        let (before, after) = (norms(a, *twin)?, norms(b, op)?);
        (after.len() < before.len()).then(|| Chart {
            id: format!("channels:{name}"),
            title: format!("{name}: {} → {} channels", before.len(), after.len()),
            data: Data::Channels { before, kept: Vec::new(), after, norm: "L1" },
        })
    };
    b.order().into_iter().filter_map(chart).collect()
}

/// Sums of the magnitudes of the weights by output channel.
fn norms(g: &Graph, op: OpId) -> Option<Vec<f32>> {
    let node = g.op(op);
    let Quant::Weighted(slot) = ops::schema(node)?.quant else { return None };
    let weight = g.const_operand(op, slot)?;
    let axis = match node.op_type.as_str() {
        "Conv" => 0,
        "ConvTranspose" => 1,
        "Gemm" => usize::from(node.int_or("transB", 0) == 0),
        "MatMul" => weight.rank().checked_sub(1)?,
        _ => return None,
    };
    let count = *weight.dims().get(axis)?;
    let inner: usize = weight.dims()[axis + 1..].iter().product();
    let mut sums = vec![0f32; count];
    for (i, w) in weight.to_f32()?.into_iter().enumerate() {
        sums[i / inner.max(1) % count.max(1)] += w.abs();
    }
    Some(sums)
}

/// Histograms of calibrated activations with their clips.
pub fn activations(tensors: &[TensorReport]) -> Vec<Chart> {
    let chart = |t: &TensorReport| {
        let (amax, bins) = t.histogram.clone()?;
        let method = serde_json::to_value(t.method).ok()?;
        let data = Data::Histogram {
            bins,
            amax: f64::from(amax),
            clip: f64::from(t.amax),
            clipped: t.clipped.unwrap_or(0.0),
            method: method.as_str().unwrap_or_default().to_owned(),
        };
        Some(Chart { id: format!("histogram:{}", t.name), title: t.name.clone(), data })
    };
    tensors.iter().filter_map(chart).collect()
}

/// Signal-to-difference ratio of values inside of the models, the lowest first; `None` where no
/// value differs.
pub fn noise(values: &[OutputDiff]) -> Option<Chart> {
    let row = |o: &OutputDiff| {
        let after = Some(o.sqnr_db.filter(|_| o.mismatch.is_none())?);
        Some(Row { name: o.name.clone(), before: None, after })
    };
    let mut rows: Vec<Row> = values.iter().filter_map(row).collect();
    rows.sort_by(|a, b| a.after.unwrap_or(0.0).total_cmp(&b.after.unwrap_or(0.0)));
    (!rows.is_empty()).then(|| Chart {
        id: "sqnr".to_owned(),
        title: "Signal to quantization noise by layer, the most sensitive first".to_owned(),
        data: Data::Layers { unit: Unit::Decibels, rows },
    })
}

/// SQNR of the outputs with one layer quantized alone, as ranked; `None` without layers.
pub fn sensitivity(layers: &[LayerNoise]) -> Option<Chart> {
    let row = |l: &LayerNoise| Row { name: l.node.clone(), before: None, after: Some(l.sqnr_db) };
    let rows: Vec<Row> = layers.iter().map(row).collect();
    (!rows.is_empty()).then(|| Chart {
        id: "sensitivity".to_owned(),
        title: "SQNR of the outputs with one layer quantized, the most sensitive first".to_owned(),
        data: Data::Layers { unit: Unit::Decibels, rows },
    })
}

/// SQNR of the outputs with one group cut alone at the largest ratio measured, the most sensitive
/// first; groups that change nothing are left out.
pub fn prune_sensitivity(groups: &[GroupSensitivity]) -> Option<Chart> {
    let row = |g: &GroupSensitivity| {
        let after = Some(g.points.last()?.sqnr_db?);
        Some(Row { name: g.name.clone(), before: None, after })
    };
    let mut rows: Vec<Row> = groups.iter().filter_map(row).collect();
    rows.sort_by(|a, b| a.after.unwrap_or(0.0).total_cmp(&b.after.unwrap_or(0.0)));
    (!rows.is_empty()).then(|| Chart {
        id: "sensitivity".to_owned(),
        title: "SQNR of the outputs with one group pruned, the most sensitive first".to_owned(),
        data: Data::Layers { unit: Unit::Decibels, rows },
    })
}

/// What is left of the multiplications against how far the results agree, or where that is not known
/// against the SQNR of the outputs; `None` without points.
pub fn trade_off(points: &[CurvePoint]) -> Option<Chart> {
    let agreement = points.iter().all(|p| p.agreement.is_some());
    let y = if agreement { "agreement in percent" } else { "SQNR of the outputs in decibels" };
    let one = |p: &CurvePoint| {
        let quality = if agreement { 100.0 * p.agreement? } else { p.sqnr_db? };
        let tip = format!("ratio {}: {:.1} % of the MACs, {quality:.1}", p.ratio, 100.0 * p.macs);
        Some((p.macs, quality, tip))
    };
    let mut points: Vec<_> = points.iter().filter_map(one).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    (!points.is_empty()).then(|| Chart {
        id: "trade-off".to_owned(),
        title: "What pruning leaves of the multiplications and of the results".to_owned(),
        data: Data::Curve { x: "multiply-accumulates left", y, points },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, bytes: usize) -> Layer {
        Layer {
            name: name.to_owned(),
            op: "Conv".to_owned(),
            weight: Vec::new(),
            params: 0,
            bytes,
            macs: None,
            precision: String::new(),
            output: String::new(),
        }
    }

    #[test]
    fn narrowed_layers_are_found_by_name() {
        let model = |text: &str| crate::onnx::text::parse(text).expect("the text parses");
        let a = model(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[1,2] x) => (float[1,3] y) <float[2,3] w = {1, -2, 3, -4, 5, 6}> {
                [fc] y = MatMul (x, w)
            }",
        );
        let b = model(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 3, -4, 6}> {
                [fc] y = MatMul (x, w)
            }",
        );
        let charts = narrowed(&a, &b);
        let Data::Channels { before, after, .. } = &charts[0].data else { panic!("channels") };
        assert_eq!((&before[..], &after[..]), (&[5f32, 7.0, 9.0][..], &[5f32, 9.0][..]));
        assert!(narrowed(&a, &a).is_empty());
    }

    #[test]
    fn rows_follow_the_result_and_keep_what_went() {
        let a = [layer("a", 1), layer("gone", 2), layer("b", 3), layer("end", 4)];
        let b = [layer("new", 5), layer("a", 6), layer("b", 7)];
        let rows = rows(&a, &b, &|l| Some(l.bytes as f64));
        let got: Vec<(&str, Option<f64>, Option<f64>)> =
            rows.iter().map(|r| (&r.name[..], r.before, r.after)).collect();
        let want = [
            ("new", None, Some(5.0)),
            ("a", Some(1.0), Some(6.0)),
            ("gone", Some(2.0), None),
            ("b", Some(3.0), Some(7.0)),
            ("end", Some(4.0), None),
        ];
        assert_eq!(got, want);
    }
}
