//! The placement rules: what each one does, what switching it off does, and where it is on.

use super::super::QuantizeError;
use super::super::options::{Profile, QuantizeOptions};
use super::super::payload::Payload;

/// A placement rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its id, as in reports and in `--rules`.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What happens while it is off.
    pub without: &'static str,
    /// The profiles that start with it.
    pub on: On,
}

/// Where a rule is on unless `--rules` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// In every profile.
    Everywhere,
    /// In profiles `tensorrt` and `tensorrt-dla`.
    Tensorrt,
    /// In profile `tensorrt`: it spares what a GPU is faster at in float.
    Gpu,
    /// Where results of linear ops need no scale: in profiles `tensorrt` and `minimal`.
    FusedResults,
    /// In every profile but `onnxruntime-cpu`.
    NotOnCpu,
    /// Nowhere: on request.
    Request,
}

impl On {
    /// The rule is on in the profile.
    pub fn holds(self, profile: Profile) -> bool {
        match self {
            On::Everywhere => true,
            On::Tensorrt => matches!(profile, Profile::Tensorrt | Profile::TensorrtDla),
            On::Gpu => profile == Profile::Tensorrt,
            On::FusedResults => matches!(profile, Profile::Tensorrt | Profile::Minimal),
            On::NotOnCpu => profile != Profile::OnnxruntimeCpu,
            On::Request => false,
        }
    }

    /// In words, for tables.
    pub fn name(self) -> &'static str {
        match self {
            On::Everywhere => "always",
            On::Tensorrt => "`tensorrt`, `tensorrt-dla`",
            On::Gpu => "`tensorrt`",
            On::FusedResults => "`tensorrt`, `minimal`",
            On::NotOnCpu => "all but `onnxruntime-cpu`",
            On::Request => "on request",
        }
    }
}

const fn rule(id: &'static str, on: On, summary: &'static str, without: &'static str) -> Rule {
    Rule { id, summary, without, on }
}

/// All rules, in the order of the specification: W of ops with weights, N of the others, T of
/// transformers.
pub static RULES: &[Rule] = &[
    rule(
        "W1",
        On::Everywhere,
        "Conv: a pair on its input, its weight by output channel (axis 0), its bias in float",
        "Conv stays float",
    ),
    rule(
        "W2",
        On::Everywhere,
        "ConvTranspose: one scale for its weight (`--convtranspose-axis`); grouped and 3-D ones stay float",
        "ConvTranspose stays float",
    ),
    rule(
        "W3",
        On::Everywhere,
        "Gemm: its weight by output feature, axis 0 with transB, else 1",
        "Gemm stays float",
    ),
    rule(
        "W4",
        On::Everywhere,
        "MatMul with a stored matrix: by the axis that is not summed; stacks of matrices one scale",
        "MatMul stays float",
    ),
    rule(
        "W5",
        On::Everywhere,
        "MatMul of two activations stays float outside attention (T4, T5)",
        "both operands get pairs",
    ),
    rule(
        "W6",
        On::Gpu,
        "depthwise Conv only with channels in eights and a kernel of 3 or more",
        "every depthwise Conv is quantized",
    ),
    rule(
        "W7",
        On::Gpu,
        "what is too small to gain stays float: few channels, a matrix times one vector; FP8: a wide kernel on few channels",
        "ops of any size are quantized",
    ),
    rule(
        "W8",
        On::Everywhere,
        "LSTM, GRU, RNN, Einsum, DeformConv, GroupNormalization and InstanceNormalization stay float",
        "a pair on their input, their weights stored with one scale",
    ),
    rule(
        "W9",
        On::Tensorrt,
        "a stored matrix that is transposed while the model runs is quantized where it is stored",
        "the product stays float",
    ),
    rule(
        "N1",
        On::FusedResults,
        "no pair behind a linear op for its own sake",
        "results of linear ops (`onnxruntime-cpu`: of convolutions) get pairs, behind Relu or Clip where one follows",
    ),
    rule(
        "N2",
        On::Everywhere,
        "no pair between a linear op and BatchNormalization or arithmetic with constants that fuse with it",
        "such ops read pairs",
    ),
    rule(
        "N3",
        On::Tensorrt,
        "residual Add: a pair on the shortcut, none on the branch that fuses",
        "residual Adds stay float",
    ),
    rule(
        "N4",
        On::Tensorrt,
        "arithmetic of two activations shares pairs that are there anyway",
        "it stays float",
    ),
    rule(
        "N5",
        On::Everywhere,
        "networks with LayerNorm: no pairs on residual streams",
        "N3 and N4 apply there as well, N1 on `onnxruntime-cpu`",
    ),
    rule(
        "N6",
        On::Tensorrt,
        "Concat read by quantized ops only: pairs of one scale on its inputs",
        "Concat stays float",
    ),
    rule(
        "N7",
        On::Tensorrt,
        "MaxPool keeps the scale of its input; average pools between quantized ops read a pair",
        "pools stay float",
    ),
    rule(
        "N8",
        On::Tensorrt,
        "a tensor and what data movement makes of it share one scale",
        "each has its own",
    ),
    rule(
        "N9",
        On::Everywhere,
        "activation functions fuse with the op before: no pair on their input",
        "those behind quantized ops read pairs",
    ),
    rule(
        "N10",
        On::Tensorrt,
        "nearest Resize between quantized ops reads a pair of the same scale; other modes stay float",
        "Resize stays float",
    ),
    rule(
        "N11",
        On::Tensorrt,
        "softmax, normalization and reductions stay float, but Conv → LayerNormalization gets a pair between",
        "no pair there either",
    ),
    rule(
        "N12",
        On::NotOnCpu,
        "tables of embeddings stay float",
        "they are stored in 8 bits, one scale for each row (same as `--embeddings`)",
    ),
    rule(
        "N13",
        On::Everywhere,
        "`--skip-first`, `--skip-last` and `--skip-head` keep ops in float",
        "these options are ignored",
    ),
    rule(
        "N14",
        On::Everywhere,
        "one pair for each tensor, shared by all its readers",
        "a pair of the same scale for each reader",
    ),
    rule(
        "N15",
        On::Tensorrt,
        "tensors moved from one share one scale, so that the linear ops that read them can merge",
        "each has its own",
    ),
    rule(
        "N16",
        On::Everywhere,
        "a weight that is a graph output or that a subgraph uses stays float",
        "it is stored twice",
    ),
    rule(
        "N17",
        On::Everywhere,
        "ops whose weight is computed while the model runs stay float",
        "such weights get a pair, one scale",
    ),
    rule(
        "N18",
        On::Everywhere,
        "constants that are added or multiplied, such as positions, stay float",
        "large ones are stored with one scale",
    ),
    rule("N19", On::Everywhere, "every pair has a use: checked on what is written", "not checked"),
    rule(
        "N20",
        On::Everywhere,
        "what GPUs of `--compute-capability` have no kernels for stays float",
        "the option is ignored",
    ),
    rule(
        "T1",
        On::Everywhere,
        "matrices of transformers (projections, feed-forward) are quantized as any",
        "networks with LayerNorm keep their matrix products in float",
    ),
    rule(
        "T2",
        On::Everywhere,
        "nothing inside GELU and LayerNorm that are spelled out reads a pair",
        "N3 and N4 apply inside",
    ),
    rule(
        "T3",
        On::Everywhere,
        "the Add of an attention mask, in front of Softmax, stays float",
        "N3 and N4 apply to it",
    ),
    rule(
        "T4",
        On::Request,
        "attention in INT8: both operands of both products, up to 512 tokens (same as `--attention`)",
        "of attention, only the projections",
    ),
    rule(
        "T5",
        On::Tensorrt,
        "attention in FP8: both operands of both products, heads of 9 to 256 channels, probabilities of scale 1/448",
        "of attention, only the projections",
    ),
    rule(
        "T6",
        On::Everywhere,
        "both products of an attention or none",
        "the one that can be is quantized alone",
    ),
    rule(
        "T7",
        On::Tensorrt,
        "Attention of operator set 23: pairs on query, key and value where T4 or T5 holds, 4-D without past",
        "it stays float",
    ),
    rule(
        "T8",
        On::Tensorrt,
        "the matrix that makes scores of a vocabulary, and attention on a cache of keys, stay float",
        "they are quantized as any",
    ),
];

/// Which rules are on.
#[derive(Clone, Debug)]
pub struct Rules {
    off: Vec<&'static str>,
}

impl Rules {
    /// Those of the profile, as `--rules` changes them.
    ///
    /// # Errors
    /// When there is no such rule.
    pub fn of(o: &QuantizeOptions) -> Result<Rules, QuantizeError> {
        let wanted = |r: &Rule| match r.id {
            "T4" if o.attention => true,
            // The form that is fast on CPUs is one of INT8.
            "N12" if o.embeddings || o.payload != Payload::Int8 => !o.embeddings,
            _ => r.on.holds(o.profile),
        };
        let mut off: Vec<&str> = RULES.iter().filter(|r| !wanted(r)).map(|r| r.id).collect();
        for switch in &o.rules {
            let (on, name) = match switch.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, switch.strip_prefix('+').unwrap_or(switch)),
            };
            let Some(rule) = find(name) else {
                let valid = RULES.iter().map(|r| r.id).collect::<Vec<_>>().join(", ");
                return Err(QuantizeError::UnknownRule { name: name.to_owned(), valid });
            };
            off.retain(|id| *id != rule.id);
            if !on {
                off.push(rule.id);
            }
        }
        Ok(Rules { off })
    }

    /// The rule is on; so is whatever is no rule that can be switched.
    pub fn on(&self, id: &str) -> bool {
        !self.off.contains(&id)
    }
}

/// The rule with this id, in any case.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_specification_are_there_once() {
        let want = (1..=9).map(|i| format!("W{i}")).chain((1..=20).map(|i| format!("N{i}")));
        let want: Vec<String> = want.chain((1..=8).map(|i| format!("T{i}"))).collect();
        assert_eq!(RULES.iter().map(|r| r.id).collect::<Vec<_>>(), want);
    }

    #[test]
    fn the_last_switch_counts() {
        let rules = |list: &[&str]| {
            let rules = list.iter().map(|s| (*s).to_owned()).collect();
            Rules::of(&QuantizeOptions { rules, ..QuantizeOptions::default() })
        };
        let on = |list: &[&str], id| rules(list).expect("rules").on(id);
        assert!(on(&[], "W7") && !on(&["-w7"], "W7") && on(&["-W7", "+W7"], "W7"));
        assert!(!on(&[], "T4") && on(&["T4"], "T4"));
        assert!(matches!(rules(&["-N99"]), Err(QuantizeError::UnknownRule { .. })));
    }
}
