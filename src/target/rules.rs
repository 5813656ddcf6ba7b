//! The rules of `lapidary check`, each with the page that `--explain` prints.

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its id.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What goes wrong, why, and what to do.
    pub page: &'static str,
}

/// The rule with this id, in any case.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.id.eq_ignore_ascii_case(id))
}

/// All rules: L of Q/DQ, N of their placement, V, O, D and S of TensorRT's parser, R of ONNX Runtime.
pub static RULES: &[Rule] = &[
    Rule {
        id: "L1",
        title: "zero points are stored and zero",
        page: "TensorRT quantizes symmetrically. A zero point must be absent or a constant of zeros; \
            any other is an error when the model is parsed. ONNX Runtime's quantizer writes \
            asymmetric activations by default. `lapidary quantize --from-quantized` keeps the ranges \
            and writes them symmetrically.",
    },
    Rule {
        id: "L2",
        title: "the type of the zero point is INT8, FP8 (E4M3FN), INT4 or FP4 (E2M1), and that of the data",
        page: "The zero point's type selects the quantized type. UINT8 is read as INT8 with a \
            warning, so that the upper half of the range is clipped. Without a zero point INT8 is \
            meant. Data and zero point must have one type.",
    },
    Rule {
        id: "L3",
        title: "rounding is to nearest even, then clamping",
        page: "q = clamp(round_half_even(x / scale)), to [-128, 127] for INT8, [-448, 448] for FP8 \
            E4M3, [-8, 7] for INT4, [-6, 6] for FP4. Arithmetic of the runtime: nothing in a file \
            can break it.",
    },
    Rule {
        id: "L4",
        title: "scale = amax / 127 for INT8, amax / 448 for FP8, amax / 7 for INT4",
        page: "How Lapidary writes scales. Tools that use amax / 128 are legal, too. Scales made for \
            unsigned data (range / 255) are not: read as INT8 they clip half of the range.",
    },
    Rule {
        id: "L5",
        title: "scales are stored, positive and finite",
        page: "A scale of zero stops the builder. Dead channels need a small positive scale; so do \
            float16 scales that underflow (below 6e-8).",
    },
    Rule {
        id: "L6",
        title: "one scale, one for each index of an axis, or one for each block",
        page: "A scale is a scalar or one element; or a vector as long as the axis; or of the rank of \
            the data with equal dims except for one blocked axis, which is the last or the last but \
            one and is divided evenly. The zero point has the same size. Scalars are not quantized.",
    },
    Rule {
        id: "L7",
        title: "several scales only on weights",
        page: "Scales along an axis or by block are only taken for constants. Activations have one \
            scale.",
    },
    Rule {
        id: "L8",
        title: "the axis is written and positive",
        page: "The default of `axis` is 1, which is wrong for the weights of Conv. Write it, counted \
            from 0.",
    },
    Rule {
        id: "L9",
        title: "scales are float32, float16 or bfloat16, of the type of the data",
        page: "Up to operator set 22 the scale of QuantizeLinear has the type of its input, and \
            DequantizeLinear returns the type of its scale. In strongly typed engines the scale \
            decides the type that the layers between compute in.",
    },
    Rule {
        id: "L10",
        title: "the operator set knows the types",
        page: "Scales along an axis need operator set 13; float16 or bfloat16 scales and FP8 need 19; \
            INT4, INT16 and blocks need 21; FP4 needs 23. `lapidary convert MODEL --opset N` raises \
            it by real conversion.",
    },
    Rule {
        id: "L11",
        title: "no INT32 behind DequantizeLinear",
        page: "TensorRT adds biases in float. DequantizeLinear of INT32, as ONNX Runtime's quantizer \
            writes for biases, is an error when the model is parsed.",
    },
    Rule {
        id: "L12",
        title: "no integer operators",
        page: "QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger, DynamicQuantizeLinear and the \
            quantized operators of com.microsoft are not known to TensorRT's parser. \
            `lapidary quantize --from-quantized` turns QLinear operators into Q/DQ around float ones.",
    },
    Rule {
        id: "L13",
        title: "TensorRT 8 takes weights in float",
        page: "From TensorRT 10 on weights may be stored as INT8 behind DequantizeLinear alone. \
            TensorRT 8 wants them in float with QuantizeLinear and DequantizeLinear: \
            `lapidary quantize --float-weights`, with `--from-quantized` for a quantized model.",
    },
    Rule {
        id: "L14",
        title: "`precision` and `saturate` of Q/DQ are ignored",
        page: "The parser ignores these attributes with a warning; a model that means something by \
            them computes something else.",
    },
    Rule {
        id: "L15",
        title: "byte inputs go through a Cast",
        page: "Inputs and outputs of the network may be UINT8, but nothing computes on them: a Cast \
            to float has to follow.",
    },
    Rule {
        id: "L16",
        title: "no quantized shape tensors, no dynamic axis of scales",
        page: "Integers that are shapes are never quantized, also where they are float for a while. \
            The axis of scales and the blocked axis have fixed sizes.",
    },
    Rule {
        id: "L17",
        title: "where precision comes from",
        page: "TensorRT 11, and 10.12 on with --stronglyTyped, takes all types from the file: a \
            float32 model with Q/DQ computes in float32 between them. `lapidary convert MODEL --fp16` \
            makes these parts float16 as well. Older versions need --int8, and --fp16 for the rest.",
    },
    Rule {
        id: "N19",
        title: "every pair has a use",
        page: "A QuantizeLinear that no DequantizeLinear reads, or a DequantizeLinear that nothing \
            reads, is overhead at best.",
    },
    Rule {
        id: "V1",
        title: "the operator set is one that the version documents",
        page: "TensorRT 8.6 documents operator sets 9 to 17, 10.0 to 10.14 9 to 20, 10.15 9 to 24, 11 \
            9 to 25. The parser does not refuse others, but reads their operators by the rules it \
            knows. `lapidary convert MODEL --opset N` takes them there.",
    },
    Rule {
        id: "V2",
        title: "the version builds for a DLA",
        page: "TensorRT 10.7 was the last release that builds for a DLA before 11.4, which does on \
            Jetson AGX Orin with JetPack 7.2.2 and later.",
    },
    Rule {
        id: "O1",
        title: "the parser knows the operator",
        page: "TensorRT's parser has no importer for the operator in this version. Often \
            simplification removes it (constant folding, inlining); else it has to be expressed by \
            others, or by a plugin.",
    },
    Rule {
        id: "O2",
        title: "restrictions of the operator",
        page: "The parser takes the operator only with some attributes, or with operands that are \
            constant when the engine is built. `lapidary simplify` folds those that are computed \
            from constants and fixed shapes.",
    },
    Rule {
        id: "O3",
        title: "operators of other domains are plugins",
        page: "An operator outside the standard domain is looked up among the plugins by its name. \
            Those of com.microsoft are ONNX Runtime's own and have none; export the model without \
            fusions of ONNX Runtime. Local functions are taken from TensorRT 9 on.",
    },
    Rule {
        id: "D1",
        title: "the element type exists",
        page: "TensorRT computes on float32, float16, bfloat16, INT32, INT64 and BOOL, and on INT8, \
            FP8, INT4 and FP4 between Q and DQ. DOUBLE is cast to float32, its values being clamped. \
            Strings, 16-bit and unsigned integers and complex numbers do not exist; UINT8 only as \
            input or output of the network.",
    },
    Rule {
        id: "D2",
        title: "the operator is documented for the type",
        page: "The table of operators lists the types that each one takes. The parser casts in some \
            cases that are not listed, so this is a warning.",
    },
    Rule {
        id: "S1",
        title: "a size that the builder must know",
        page: "Channels of convolutions and the number of axes must be fixed when the engine is \
            built. Often shape inference finds them once the model is simplified; \
            `lapidary simplify --dim NAME=SIZE` fixes a symbol.",
    },
    Rule {
        id: "S2",
        title: "sizes that depend on data",
        page: "The result of NonZero, NonMaxSuppression and their like has a size known only when it \
            runs. TensorRT plans memory for the upper bound and cannot use CUDA graphs; layers that \
            need a size at build time fail behind it.",
    },
    Rule {
        id: "S3",
        title: "open sizes of inputs need a profile",
        page: "Every open dim of an input needs --minShapes, --optShapes and --maxShapes. The line \
            that `lapidary quantize`, `optimize` and `inspect` print proposes some. Kernels are \
            chosen for the opt shape.",
    },
    Rule {
        id: "S4",
        title: "control flow whose shapes change",
        page: "The branches of If return tensors of one rank; values carried by Loop keep their shape; \
            the length of what Loop collects is fixed.",
    },
    Rule {
        id: "R1",
        title: "ONNX Runtime has a kernel for the operator",
        page: "No kernel of the CPU provider takes this version of the operator, and it is not \
            defined by others.",
    },
    Rule {
        id: "R2",
        title: "ONNX Runtime's kernel takes the type",
        page: "No kernel of the CPU provider takes this element type. float16 is cast to float32 \
            where a kernel is missing; other types are not.",
    },
    Rule {
        id: "R3",
        title: "Q/DQ that ONNX Runtime optimizes to something else",
        page: "ONNX Runtime quantizes biases with the product of two scales, which underflows where \
            these are float16, and makes of Concat between pairs an operator that takes float32 scales \
            only. Its rewriting of Clip and Relu in front of QuantizeLinear knows no FP8: Clip does not \
            load, Relu gets lost. Seen with \
            version 1.32; with graph optimizations off such models run as they are meant.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_in_any_case() {
        let mut ids: Vec<&str> = RULES.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert!(find("l5").is_some_and(|r| r.id == "L5"));
        assert!((1..=17).all(|i| find(&format!("L{i}")).is_some()));
    }
}
