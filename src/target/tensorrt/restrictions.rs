//! O2: operators that the parser takes only in part.

use crate::ir::{Graph, OpId, ValueId};
use crate::target::{Finding, Severity};

pub(super) fn check(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    let mut check = Check { g, op, findings };
    match g.op(op).op_type.as_str() {
        "Attention" => check.attention(),
        "AveragePool" | "MaxPool" | "LpPool" => check.pool(),
        "BatchNormalization" if check.int("training_mode", 0) != 0 => check.no("training mode"),
        "Constant" => check.constant(),
        "CumSum" => check.stored(1, "axis"),
        "DeformConv" => check.deform_conv(),
        "Dropout" => check.dropout(),
        "EyeLike" => check.fixed_shape(0),
        "GridSample" => check.rank(&[(0, &[4])]),
        "GRU" | "LSTM" | "RNN" => check.recurrent(),
        "Hardmax" => check.hardmax(),
        "LayerNormalization" => check.only_first_result(),
        "LpNormalization" | "GlobalLpPool" if ![1, 2].contains(&check.int("p", 2)) => {
            check.no("a norm other than L1 and L2");
        }
        "OneHot" => check.stored(1, "depth"),
        "Pad" => check.stored(3, "axes"),
        "Resize" => check.resize(),
        "RoiAlign" => check.one_of("mode", "avg", &["avg", "max"]),
        "Scatter" | "ScatterND" => check.one_of("reduction", "none", &["none"]),
        "Squeeze" | "Unsqueeze" => check.stored(1, "axes"),
        "STFT" => {
            check.stored(1, "frame_step");
            check.stored(2, "window");
        }
        "TensorScatter" if check.int("axis", -2) != -2 => check.no("an axis other than -2"),
        "TopK" => check.top_k(),
        "Upsample" => check.one_of("mode", "nearest", &["nearest", "linear", "bilinear"]),
        t if t.starts_with("Reduce") => check.stored(1, "axes"),
        _ => {}
    }
}

struct Check<'a> {
    g: &'a Graph,
    op: OpId,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn no(&mut self, what: &str) {
        let why = format!("TensorRT does not take {what}");
        let fix = "express it by other operators";
        self.findings.push(Finding::error("O2", self.g.label(self.op), why, fix));
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.g.op(self.op).int_or(name, default)
    }

    /// The optional operand is constant when the engine is built.
    fn stored(&mut self, slot: usize, name: &str) {
        let Some(v) = self.g.operand(self.op, slot) else { return };
        let g = self.g;
        let made = |v: ValueId| g.producer_op(v).is_some_and(|p| g.op(p).is("Constant"));
        if g.is_const(v) || made(v) || g.is_capture(v) {
            return;
        }
        let why = format!("{name} has to be constant");
        let severity = match crate::ops::is_shape_arithmetic(g, v) {
            true => Severity::Warning,
            false => Severity::Error,
        };
        let fix = "fold what it is computed from";
        let finding = Finding::error("O2", g.label(self.op), why, fix);
        self.findings.push(finding.rated(severity).repaired_by("simplify MODEL"));
    }

    fn one_of(&mut self, attr: &str, default: &str, allowed: &[&str]) {
        let is = self.g.op(self.op).str(attr).unwrap_or(default).to_owned();
        if !allowed.contains(&is.as_str()) {
            self.no(&format!("{attr} {is:?}"));
        }
    }

    fn rank(&mut self, slots: &[(usize, &[usize])]) {
        for (slot, ranks) in slots {
            let rank = self.g.operand(self.op, *slot).and_then(|v| self.g.value(v).rank());
            if let Some(r) = rank.filter(|r| !ranks.contains(r)) {
                self.no(&format!("operand {slot} of {r} axes"));
            }
        }
    }

    fn fixed_shape(&mut self, slot: usize) {
        let value = self.g.operand(self.op, slot).map(|v| self.g.value(v));
        if value.is_some_and(|v| v.sizes().is_none()) {
            let why = "its input must have a fixed shape";
            let finding = Finding::error("O2", self.g.label(self.op), why, "fix the shape");
            self.findings.push(finding.repaired_by("simplify MODEL"));
        }
    }

    fn only_first_result(&mut self) {
        let g = self.g;
        if g.results(self.op).into_iter().skip(1).flatten().any(|v| !g.is_unused(v)) {
            self.no("results other than the first");
        }
    }

    fn attention(&mut self) {
        self.rank(&[(0, &[4]), (1, &[4]), (2, &[4]), (3, &[4])]);
        let extra = (4..7).any(|i| self.g.operand(self.op, i).is_some());
        if extra {
            self.no("past_key, past_value or nonpad_kv_seqlen");
        }
        self.only_first_result();
        let node = self.g.op(self.op);
        let attrs = ["qk_matmul_output_mode", "softcap"].iter().any(|a| node.attr(a).is_some());
        if attrs {
            self.no("qk_matmul_output_mode or softcap");
        }
    }

    fn pool(&mut self) {
        let node = self.g.op(self.op);
        let dilated = node.ints("dilations").is_some_and(|d| d.iter().any(|n| *n != 1));
        let kernel = node.ints("kernel_shape").map_or(0, <[i64]>::len);
        if dilated {
            self.no("dilated pooling");
        }
        if kernel > 3 {
            self.no(&format!("pooling over {kernel} axes"));
        }
        if self.g.op(self.op).is("MaxPool") {
            let g = self.g;
            if g.result(self.op, 1).is_some_and(|v| !g.is_unused(v)) {
                self.no("the indices of MaxPool");
            }
        }
    }

    fn constant(&mut self) {
        let node = self.g.op(self.op);
        let bad = ["sparse_value", "value_string", "value_strings"];
        if let Some(name) = bad.iter().find(|a| node.attr(a).is_some()) {
            self.no(name);
        }
    }

    fn deform_conv(&mut self) {
        self.rank(&[(0, &[3, 4])]);
        let pads = self.g.op(self.op).ints("pads").unwrap_or_default();
        let half = pads.len() / 2;
        if pads[..half] != pads[half..half * 2] {
            self.no("pads that differ between begin and end");
        }
    }

    fn dropout(&mut self) {
        let g = self.g;
        let Some(v) = g.operand(self.op, 2) else { return };
        self.stored(2, "training_mode");
        if g.const_tensor(v).and_then(|t| t.single()).is_some_and(|on| on != 0.0) {
            self.no("training mode");
        }
    }

    fn recurrent(&mut self) {
        let node = self.g.op(self.op);
        let (forget, layout) = (node.int_or("input_forget", 0), node.int_or("layout", 0));
        let both = node.str("direction") == Some("bidirectional");
        let differ = match node.attr("activations") {
            Some(crate::ir::AttrValue::Strs(s)) => {
                let half = s.len() / 2;
                both && s[..half] != s[half..half * 2]
            }
            _ => false,
        };
        if forget != 0 {
            self.no("input_forget");
        }
        if layout != 0 {
            self.no("layout 1");
        }
        if differ {
            self.no("activations that differ between the directions");
        }
    }

    fn hardmax(&mut self) {
        let axis = self.int("axis", -1);
        let shape = self.g.operand(self.op, 0).and_then(|v| self.g.value(v).shape());
        let Some(shape) = shape else { return };
        let index = if axis < 0 { axis + shape.len() as i64 } else { axis };
        let dim = usize::try_from(index).ok().and_then(|i| shape.get(i));
        if dim.is_some_and(|d| d.size().is_none()) {
            self.no("an open size of the axis of Hardmax");
        }
    }

    fn resize(&mut self) {
        let modes = [
            "half_pixel",
            "pytorch_half_pixel",
            "tf_half_pixel_for_nn",
            "asymmetric",
            "align_corners",
        ];
        self.one_of("coordinate_transformation_mode", "half_pixel", &modes);
        self.one_of("keep_aspect_ratio_policy", "stretch", &["stretch"]);
        if self.int("antialias", 0) != 0 {
            self.no("antialiasing");
        }
        let node = self.g.op(self.op);
        let axes = node.ints("axes").unwrap_or_default();
        let rank = self.g.operand(self.op, 0).and_then(|v| self.g.value(v).rank());
        let iota = axes.iter().enumerate().all(|(i, a)| i as i64 == *a);
        let whole = axes.is_empty() || (iota && rank.is_none_or(|r| r == axes.len()));
        if self.g.operand(self.op, 2).is_some() && !whole {
            self.no("scales for some of the axes");
        }
        if node.str("mode") == Some("cubic") {
            let why = "cubic mode is not documented";
            let finding = Finding::error("O2", self.g.label(self.op), why, "use linear or nearest");
            self.findings.push(finding.rated(Severity::Warning));
        }
    }

    fn top_k(&mut self) {
        const MOST: i64 = 3840;
        if self.int("sorted", 1) != 1 {
            self.no("unsorted results");
        }
        let k = self.g.const_operand(self.op, 1).and_then(|t| t.single()).map(|k| k as i64);
        if let Some(k) = k.or(self.g.op(self.op).int("k")).filter(|k| *k >= MOST) {
            self.no(&format!("k = {k}; the limit is below {MOST}"));
        }
    }
}
