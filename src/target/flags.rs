//! Flags that `trtexec` once took.

use super::Version;

/// A flag that a version of `trtexec` does not take, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trtexec {version} has no {flag}: {instead}")]
pub struct RemovedFlag {
    /// The flag, without its value.
    pub flag: String,
    /// The version asked for.
    pub version: Version,
    /// What replaces it.
    pub instead: &'static str,
}

const EXPLICIT_BATCH: &str = "networks from ONNX always have an explicit batch; leave it out";
const IMPLICIT_BATCH: &str =
    "the batch is a dim of the model; say its size with --minShapes, --optShapes and --maxShapes";
const OTHER_FORMATS: &str = "only ONNX models are read; convert the model and name it with --onnx";
const TYPES_FROM_FILE: &str = "types come from the model; convert or quantize the model itself";
const CALIBRATION: &str = "there is no calibration; insert Q/DQ with `lapidary quantize`";
const VERBOSITY: &str = "--profilingVerbosity=layer_names_only, none or detailed";

/// Flags by the major version that dropped them: what the options of `trtexec` (`sampleOptions.cpp` of
/// the releases 8.6.1, 9.3, 10.0 to 10.16, 11.0 and 11.1) parse in one release and not in the next, with
/// the replacements that its warnings and NVIDIA's migration guides name. What a version only warns of
/// (`--streams`, `--directIO`, `--stronglyTyped` in 11, …) is let through.
const REMOVED: [(&str, u32, &str); 32] = [
    ("--batch", 9, IMPLICIT_BATCH),
    ("--maxBatch", 9, IMPLICIT_BATCH),
    ("--deploy", 9, OTHER_FORMATS),
    ("--model", 9, OTHER_FORMATS),
    ("--output", 9, OTHER_FORMATS),
    ("--uff", 9, OTHER_FORMATS),
    ("--uffInput", 9, OTHER_FORMATS),
    ("--uffNHWC", 9, OTHER_FORMATS),
    ("--explicitBatch", 10, EXPLICIT_BATCH),
    ("--explicitPrecision", 10, "Q/DQ in the model say the precision; leave it out"),
    ("--workspace", 10, "--memPoolSize=workspace:<MiB>"),
    ("--buildOnly", 10, "--skipInference"),
    ("--minTiming", 10, "--avgTiming"),
    ("--nvtxMode", 10, VERBOSITY),
    ("--heuristic", 10, "--builderOptimizationLevel=<0 to 5>"),
    ("--nativeInstanceNorm", 10, "the parser decides; leave it out"),
    ("--fp16", 11, TYPES_FROM_FILE),
    ("--bf16", 11, TYPES_FROM_FILE),
    ("--int8", 11, "Q/DQ in the model say what runs in INT8; insert them with `lapidary quantize`"),
    ("--fp8", 11, TYPES_FROM_FILE),
    ("--int4", 11, TYPES_FROM_FILE),
    ("--best", 11, TYPES_FROM_FILE),
    ("--calib", 11, CALIBRATION),
    ("--calibProfile", 11, CALIBRATION),
    ("--minShapesCalib", 11, CALIBRATION),
    ("--optShapesCalib", 11, CALIBRATION),
    ("--maxShapesCalib", 11, CALIBRATION),
    ("--precisionConstraints", 11, TYPES_FROM_FILE),
    ("--layerPrecisions", 11, TYPES_FROM_FILE),
    ("--layerOutputTypes", 11, TYPES_FROM_FILE),
    ("--restricted", 11, "--safe builds within the scope of safety"),
    ("--weightless", 11, "--stripWeights"),
];

/// Says so when a flag, perhaps with `=value`, is one that `version` dropped. `--preview` counts
/// only with features that are gone.
pub fn removed_flag(arg: &str, version: Version) -> Option<RemovedFlag> {
    let flag = arg.split('=').next().unwrap_or(arg);
    let gone = |instead| RemovedFlag { flag: flag.to_owned(), version, instead };
    if flag == "--preview" && version.at_least(10, 0) {
        let features = ["disableExternalTacticSourcesForCore0805", "fasterDynamicShapes0805"];
        let old = features.iter().any(|f| arg.contains(f));
        return old.then(|| gone("these features are always on; leave them out"));
    }
    let (_, _, instead) =
        REMOVED.iter().find(|(name, since, _)| *name == flag && version.at_least(*since, 0))?;
    Some(gone(instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_with_their_version() {
        let check = |arg, version: &str| {
            removed_flag(arg, version.parse().expect("a version")).map(|f| f.to_string())
        };
        assert_eq!(check("--workspace=4096", "8.6"), None);
        assert_eq!(
            check("--workspace=4096", "10").as_deref(),
            Some("trtexec 10 has no --workspace: --memPoolSize=workspace:<MiB>")
        );
        assert!(check("--explicitBatch", "10.7").is_some());
        assert_eq!(check("--fp16", "10"), None);
        assert!(check("--fp16", "11").is_some());
        assert_eq!(check("--skipInference", "11"), None);
        assert_eq!(check("--stronglyTyped", "11"), None, "11 takes it and does nothing");
        assert!(check("--batch=8", "10").is_some());
        assert_eq!(check("--batch=8", "8.6"), None);
        assert!(check("--preview=+fasterDynamicShapes0805", "10").is_some());
        assert_eq!(check("--preview=+aliasedPluginIO1003", "10"), None);
    }
}
