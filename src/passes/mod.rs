//! The passes, one file each. [`crate::pass`] drives them; its pipeline lists them in order.
//!
//! To add one: copy the nearest file, write its page (the headings are fixed), its line in
//! `pass/pipeline.rs` and a folder of cases under `fixtures/passes`.

mod bodies;
mod body_constants;
mod cone;
mod content;
mod factors;
mod linear;
mod norm;
mod pattern;
mod polynomial;
mod reshape;
mod weights;

pub(crate) mod deduplicate_initializers;
pub(crate) mod eliminate_idempotent;
pub(crate) mod eliminate_identity;
pub(crate) mod eliminate_inverse;
pub(crate) mod eliminate_noop;
pub(crate) mod eliminate_optionals;
pub(crate) mod eliminate_sequences;
pub(crate) mod eliminate_unit;
pub(crate) mod fold_constants;
pub(crate) mod fold_reshape_shape;
pub(crate) mod freeze_inputs;
pub(crate) mod fuse_attention;
pub(crate) mod fuse_bias;
pub(crate) mod fuse_conv_bn;
pub(crate) mod fuse_dequantize_transpose;
pub(crate) mod fuse_gather_unsqueeze;
pub(crate) mod fuse_gelu;
pub(crate) mod fuse_gemm_bn;
pub(crate) mod fuse_gemm_transpose;
pub(crate) mod fuse_hard_swish;
pub(crate) mod fuse_input_scale;
pub(crate) mod fuse_keepdims;
pub(crate) mod fuse_layer_norm;
pub(crate) mod fuse_log_softmax;
pub(crate) mod fuse_matmul_add;
pub(crate) mod fuse_mish;
pub(crate) mod fuse_pad;
pub(crate) mod fuse_rms_norm;
pub(crate) mod fuse_rotary_embedding;
pub(crate) mod fuse_scale;
pub(crate) mod fuse_softsign;
pub(crate) mod hoist_invariants;
pub(crate) mod inline_exported;
pub(crate) mod inline_functions;
pub(crate) mod inline_if;
pub(crate) mod lift_constants;
pub(crate) mod merge_casts;
pub(crate) mod merge_clips;
pub(crate) mod merge_common;
pub(crate) mod merge_concats;
pub(crate) mod merge_constants;
pub(crate) mod merge_qdq;
pub(crate) mod merge_reshapes;
pub(crate) mod merge_slices;
pub(crate) mod merge_transposes;
pub(crate) mod merge_unsqueezes;
pub(crate) mod raise_opset;
pub(crate) mod remove_dead;
pub(crate) mod trim_bodies;
pub(crate) mod unroll_loops;
