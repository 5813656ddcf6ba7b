//! Limits as people write them: `25.6M`, `10MB`, `+2%`, `-5%`, `+10k`.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most that something may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A number.
    Absolute(f64),
    /// Growth over the baseline, as a share.
    Share(f64),
    /// Growth over the baseline, as a number.
    Growth(f64),
}

/// The text is no limit.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0:?} is no limit: say 25.6M or 10MiB, or +2% or +10k of growth over the baseline")]
pub struct ParseLimitError(String);

impl Limit {
    /// The limit needs a baseline.
    pub fn is_relative(&self) -> bool {
        !matches!(self.kind, Kind::Absolute(_))
    }

    /// The largest value that is allowed; `None` when it needs a baseline that is not there.
    pub fn most(&self, baseline: Option<f64>) -> Option<f64> {
        match self.kind {
            Kind::Absolute(n) => Some(n),
            Kind::Share(share) => baseline.map(|b| b * (1.0 + share)),
            Kind::Growth(n) => baseline.map(|b| b + n),
        }
    }
}

impl FromStr for Limit {
    type Err = ParseLimitError;

    fn from_str(text: &str) -> Result<Limit, ParseLimitError> {
        let fail = || ParseLimitError(text.to_owned());
        let trimmed = text.trim();
        let signed = trimmed.starts_with(['+', '-']);
        let kind = match trimmed.strip_suffix('%') {
            Some(share) if signed => {
                Kind::Share(share.trim().parse::<f64>().map_err(|_| fail())? / 100.0)
            }
            Some(_) => return Err(fail()),
            None => match (number(trimmed).ok_or_else(fail)?, signed) {
                (n, true) => Kind::Growth(n),
                (n, false) => Kind::Absolute(n),
            },
        };
        let (Kind::Absolute(n) | Kind::Share(n) | Kind::Growth(n)) = kind;
        if n.is_finite() { Ok(Limit { kind, text: trimmed.to_owned() }) } else { Err(fail()) }
    }
}

/// A number with a metric suffix, or a binary one with an `i`; a `B` may follow.
fn number(text: &str) -> Option<f64> {
    let bare = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (bare, base) = match bare.strip_suffix('i') {
        Some(bare) => (bare, 1024f64),
        None => (bare, 1000.0),
    };
    let power = match bare.chars().last()?.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ if base == 1024.0 => return None,
        _ => 0,
    };
    let digits = if power > 0 { &bare[..bare.len() - 1] } else { bare };
    Some(digits.trim().parse::<f64>().ok()? * base.powi(power))
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Limit, D::Error> {
        d.deserialize_any(One)
    }
}

struct One;

impl Visitor<'_> for One {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a limit such as 25000, \"25.6M\" or \"+2%\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Limit, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Limit, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Limit, E> {
        self.visit_str(&n.to_string())
    }
}

/// Reads one limit or a list of them.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Limit>, D::Error> {
    struct Many;
    impl<'de> Visitor<'de> for Many {
        type Value = Vec<Limit>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a limit or a list of limits")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Limit>, E> {
            One.visit_str(text).map(|l| vec![l])
        }

        fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Vec<Limit>, E> {
            One.visit_i64(n).map(|l| vec![l])
        }

        fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Vec<Limit>, E> {
            One.visit_u64(n).map(|l| vec![l])
        }

        fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Vec<Limit>, E> {
            One.visit_f64(n).map(|l| vec![l])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<Limit>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    d.deserialize_any(Many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_growth() {
        let most = |text: &str, base| text.parse::<Limit>().expect("a limit").most(base);
        assert_eq!(most("25000", None), Some(25_000.0));
        assert_eq!(most("1.5M", None), Some(1_500_000.0));
        assert_eq!(most("10MB", None), Some(10_000_000.0));
        assert_eq!(most("2KiB", None), Some(2048.0));
        assert_eq!(most("+2%", Some(100.0)), Some(102.0));
        assert_eq!(most("-50%", Some(100.0)), Some(50.0));
        assert_eq!(most("+1k", Some(100.0)), Some(1100.0));
        assert_eq!(most("+2%", None), None);
        for text in ["", "2%", "many", "+", "%", "1i", "nan", "inf", "é"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
