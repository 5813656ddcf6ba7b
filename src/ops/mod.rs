//! What is known about operators: one [`OpSchema`] each.
//!
//! Passes ask the schema instead of naming operators. The defaults of [`OpSchema::new`] are the
//! safe answers: unknown shape, pinned axes, no cost known, never quantized, never folded natively.
//!
//! To add an operator: write its schema in the file of its family and its line in `TABLE`.

mod activation;
mod arith;
mod attention;
pub mod axes;
mod contrib;
mod control;
mod conv;
mod creation;
mod einsum;
mod elementwise;
mod eval;
mod facts;
mod image;
mod indexing;
mod infer;
mod join;
#[cfg(test)]
mod layer_tests;
mod linear;
mod loss;
mod movement;
mod norm;
mod padding;
mod pool;
mod quant;
mod random;
mod reduce;
mod reshape;
mod rnn;
mod sequence;
mod signal;
mod slicing;
#[cfg(test)]
mod tests;
mod text;
pub mod versions;
mod window;

use std::sync::LazyLock;

pub use axes::{Axes, AxisLink, AxisRef};
pub(crate) use control::loop_goes_on;
pub(crate) use einsum::{Equation, Label};
pub(crate) use eval::broadcast_pairs;
pub(crate) use eval::dequantize::{codes, dequantized};
pub(crate) use facts::is_shape_arithmetic;
pub use facts::{operand_shape, result_shape};
pub use infer::{Arg, Found, InferCx, InferError, MAX_SYM, broadcast, normalize_axis, unify_dim};
pub use join::join;
pub(crate) use window::Window;

use crate::ir::{Dim, Graph, Op, OpId, Tensor, Type};
use crate::maps::Map;

/// Types that the inputs of a body get from outside: `(cx, index of the body)`.
pub type BodyInputs = fn(&InferCx, usize) -> Vec<Option<Type>>;

/// Pairs of body input and body output that hold one value, before and after a run of the body.
pub type Carried = fn(&Op) -> Vec<(usize, usize)>;

/// A native kernel: the results, or `None` where it declines.
pub type Eval = fn(&EvalCx) -> Option<Vec<Tensor>>;

/// Everything that passes need to know about an operator of the default domain.
#[derive(Debug)]
pub struct OpSchema {
    /// Operator name.
    pub op_type: &'static str,
    /// Computes types, shapes and small integer values of the results.
    pub infer: fn(&mut InferCx) -> Result<(), InferError>,
    /// Types of a body's inputs, for operators with subgraphs: `(cx, index of the body)`.
    pub body_inputs: Option<BodyInputs>,
    /// What the body hands to its next run, for operators that run it again and again.
    pub carried: Option<Carried>,
    /// Which input axis is which output axis.
    pub axes: Axes,
    /// Multiply-accumulates of one run; `None` when shapes are not known well enough.
    pub macs: fn(&Graph, OpId) -> Option<Dim>,
    /// How quantization treats it.
    pub quant: Quant,
    /// Computes the results natively from constant operands; `None` where it declines.
    pub eval: Option<Eval>,
    /// The same operands always give the same results.
    pub deterministic: bool,
    /// `f(f(x)) = f(x)`.
    pub idempotent: bool,
    /// The first two operands may be swapped.
    pub commutative: bool,
}

/// How quantization treats an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// Leave it in floating point.
    Never,
    /// Q/DQ pairs pass through: it only moves data.
    PassThrough,
    /// A linear operator; the operand with this index is its weight.
    Weighted(usize),
}

/// An op with all operands constant.
pub struct EvalCx<'a> {
    /// The op.
    pub op: &'a Op,
    /// Version of the default operator set.
    pub opset: i64,
    /// Operands; missing optionals are `None`.
    pub operands: &'a [Option<&'a Tensor>],
    /// A kernel declines rather than make a result of more bytes than this.
    pub max_bytes: usize,
}

impl<'a> EvalCx<'a> {
    /// The operand in slot `i`.
    pub fn operand(&self, i: usize) -> Option<&'a Tensor> {
        self.operands.get(i).copied().flatten()
    }
}

impl OpSchema {
    /// A schema that claims nothing.
    pub const fn new(op_type: &'static str) -> OpSchema {
        OpSchema {
            op_type,
            infer: |_| Ok(()),
            body_inputs: None,
            carried: None,
            axes: Axes::Pinned,
            macs: |_, _| Some(Dim::Known(0)),
            quant: Quant::Never,
            eval: None,
            deterministic: true,
            idempotent: false,
            commutative: false,
        }
    }
}

/// All schemas, by family.
static TABLE: &[&[OpSchema]] = &[
    activation::SCHEMAS,
    attention::SCHEMAS,
    control::SCHEMAS,
    conv::SCHEMAS,
    creation::SCHEMAS,
    einsum::SCHEMAS,
    elementwise::SCHEMAS,
    image::SCHEMAS,
    indexing::SCHEMAS,
    linear::SCHEMAS,
    loss::SCHEMAS,
    movement::SCHEMAS,
    norm::SCHEMAS,
    padding::SCHEMAS,
    pool::SCHEMAS,
    quant::SCHEMAS,
    random::SCHEMAS,
    reduce::SCHEMAS,
    reshape::SCHEMAS,
    rnn::SCHEMAS,
    sequence::SCHEMAS,
    signal::SCHEMAS,
    slicing::SCHEMAS,
    text::SCHEMAS,
];

/// The schema of an operator of the default domain.
pub fn schema(op: &Op) -> Option<&'static OpSchema> {
    static BY_NAME: LazyLock<Map<&'static str, &'static OpSchema>> =
        LazyLock::new(|| TABLE.iter().copied().flatten().map(|s| (s.op_type, s)).collect());
    if op.domain.is_empty() { BY_NAME.get(op.op_type.as_str()).copied() } else { None }
}

/// The schema of an operator, ONNX Runtime's own included: for what types and axes are, not for what may be
/// rewritten.
pub fn any_schema(op: &Op) -> Option<&'static OpSchema> {
    schema(op).or_else(|| contrib::schema(op))
}

/// All schemas.
pub fn schemas() -> impl Iterator<Item = &'static OpSchema> {
    TABLE.iter().copied().flatten()
}

#[cfg(test)]
mod table_tests {
    use super::*;

    #[test]
    fn every_operator_stands_once_in_the_table() {
        let mut names: Vec<&str> = schemas().map(|s| s.op_type).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    /// All operators that the default domain has or had up to version 27.
    const OPERATORS: &str = "\
        Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention \
        AveragePool BatchNormalization Bernoulli BitCast BitShift BitwiseAnd BitwiseNot \
        BitwiseOr BitwiseXor BlackmanWindow Cast CastLike CausalConvWithState Ceil Celu \
        CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant \
        ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum DFT \
        DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear \
        Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements \
        GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater \
        GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid \
        HardSwish Hardmax Identity If ImageDecoder InstanceNormalization IsInf IsNaN LRN \
        LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearAttention Log LogSoftmax \
        Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool \
        Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Multinomial Neg \
        NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional \
        OptionalGetElement OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul \
        QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform \
        RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp \
        ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch \
        Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan Scatter \
        ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty \
        SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign \
        Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth \
        Split SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum \
        Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile TopK Transpose \
        Trilu Unique Unsqueeze Upsample Where Xor";

    #[test]
    fn every_operator_of_the_default_domain_has_a_schema() {
        let names: Vec<&str> = schemas().map(|s| s.op_type).collect();
        let missing: Vec<&str> =
            OPERATORS.split_whitespace().filter(|op| !names.contains(op)).collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn results_that_change_from_run_to_run_are_not_deterministic() {
        let random: Vec<&str> = schemas().filter(|s| !s.deterministic).map(|s| s.op_type).collect();
        for op in ["RandomNormal", "RandomUniformLike", "Bernoulli", "Multinomial"] {
            assert!(random.contains(&op), "{op}");
        }
    }
}
