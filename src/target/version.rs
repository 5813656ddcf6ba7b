//! Versions of TensorRT.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version of TensorRT; without a minor version the newest of that major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u32,
    minor: Option<u32>,
}

/// The text is no version of TensorRT that Lapidary knows.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0:?} is no version of TensorRT: say 8.6, 10, 10.7 or 11")]
pub struct ParseVersionError(String);

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Version, ParseVersionError> {
        let fail = || ParseVersionError(text.to_owned());
        let mut parts = text.split('.').map(|p| p.parse::<u32>().map_err(|_| fail()));
        let major = parts.next().ok_or_else(fail)??;
        let minor = parts.next().transpose()?;
        parts.try_for_each(|p| p.map(|_| ()))?;
        if (8..=11).contains(&major) && major != 9 {
            Ok(Version { major, minor })
        } else {
            Err(fail())
        }
    }
}

impl TryFrom<String> for Version {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Version, ParseVersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(v: Version) -> String {
        v.to_string()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.major)?;
        self.minor.map_or(Ok(()), |minor| write!(f, ".{minor}"))
    }
}

impl Default for Version {
    /// TensorRT 11.
    fn default() -> Version {
        Version { major: 11, minor: None }
    }
}

impl Version {
    /// The version in what `trtexec` prints first: `[TensorRT v8503]` is 8.5.3, `[TensorRT v101502]`
    /// is 10.15.2.
    pub fn in_output(output: &str) -> Option<Version> {
        let digits = output.split("[TensorRT v").nth(1)?.split(']').next()?;
        let n: u32 = digits.parse().ok()?;
        let (major, minor) = match digits.len() {
            4 => (n / 1000, n / 100 % 10),
            _ => (n / 10_000, n / 100 % 100),
        };
        format!("{major}.{minor}").parse().ok()
    }

    /// It is this version or a later one; without a minor version it is the newest of its major.
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || (self.major == major && self.minor.is_none_or(|have| have >= minor))
    }

    /// It builds for a DLA: 10.7 was the last release that did before 11.4 (NVIDIA's "Working with DLA").
    pub(super) fn knows_dla(self) -> bool {
        !self.at_least(10, 8) || self.at_least(11, 4)
    }

    /// Every network is strongly typed.
    pub(super) fn always_strongly_typed(self) -> bool {
        self.major >= 11
    }

    /// Types come from the file on request, and precision flags are deprecated.
    pub(super) fn takes_strongly_typed(self) -> bool {
        self.at_least(10, 12) && !self.at_least(11, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_versions_are_refused() {
        for text in ["", "9", "7.2", "12", "ten", "10.x"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!("10.7".parse::<Version>().expect("version").to_string(), "10.7");
    }

    #[test]
    fn trtexec_says_its_version() {
        let found = |text| Version::in_output(text).map(|v| v.to_string());
        let line = "&&&& RUNNING TensorRT.trtexec [TensorRT v8503] # trtexec --help";
        assert_eq!(found(line).as_deref(), Some("8.5"));
        assert_eq!(found("[TensorRT v101502] [b14]").as_deref(), Some("10.15"));
        assert_eq!(found("[TensorRT v110500]").as_deref(), Some("11.5"));
        assert_eq!(found("trtexec: not found"), None);
    }
}
