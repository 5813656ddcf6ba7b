//! Ways of writing the same thing.

/// Which optional parts a file spells out although they say nothing, or leaves out although files
/// usually have them. Nothing depends on it; saving follows it, so that what no pass touches is
/// written byte for byte as it was read. What the bits mean is up to `onnx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spelling(u32);

impl Spelling {
    /// Sets `flag` when `yes`.
    #[must_use]
    pub fn with(self, flag: u32, yes: bool) -> Spelling {
        if yes { Spelling(self.0 | flag) } else { self }
    }

    /// The flags of both.
    #[must_use]
    pub fn and(self, other: Spelling) -> Spelling {
        Spelling(self.0 | other.0)
    }

    /// `flag` is set.
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}
