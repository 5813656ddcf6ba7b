//! Symbolic dims: integers that may depend on named symbols.
//!
//! A [`Dim`] is a polynomial with integer coefficients over symbols and a few opaque operations.
//! It is kept in normal form, so equal polynomials are equal values. Symbols stand for sizes and
//! are therefore never negative.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::poly::{Atom, DimOp, Poly, div_floor};

/// A size, or any small integer that shape arithmetic computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A known integer.
    Known(i64),
    /// An integer that depends on symbols.
    Sym(Arc<Poly>),
    /// Nothing is known.
    Unknown,
}

/// Sizes of all axes of a tensor.
pub type Shape = Vec<Dim>;

static FRESH: AtomicU64 = AtomicU64::new(0);

impl Dim {
    /// The symbol with this name.
    pub fn symbol(name: &str) -> Dim {
        Poly::atom(Atom::Name(name.into())).into_dim()
    }

    /// A new size that equals no other.
    pub fn fresh() -> Dim {
        Poly::atom(Atom::Fresh(FRESH.fetch_add(1, Ordering::Relaxed))).into_dim()
    }

    /// The number that the next fresh size gets; those that exist have smaller ones.
    pub(crate) fn next_fresh() -> u64 {
        FRESH.load(Ordering::Relaxed)
    }

    /// The integer, when it is known.
    pub fn known(&self) -> Option<i64> {
        match self {
            Dim::Known(n) => Some(*n),
            _ => None,
        }
    }

    /// The size, when it is known and not negative.
    pub fn size(&self) -> Option<usize> {
        self.known().and_then(|n| usize::try_from(n).ok())
    }

    /// A known integer or an expression in symbols.
    pub fn is_some(&self) -> bool {
        !matches!(self, Dim::Unknown)
    }

    /// The two are the same whatever the symbols are.
    pub fn same(&self, other: &Dim) -> bool {
        self.is_some() && self == other
    }

    /// The two differ whatever the symbols are.
    pub fn differs(&self, other: &Dim) -> bool {
        matches!((self - other).known(), Some(n) if n != 0)
    }

    /// The name, when this is one plain named symbol.
    pub fn name(&self) -> Option<&str> {
        let Dim::Sym(poly) = self else { return None };
        match poly.single_atom()? {
            Atom::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Provably at least `min`, given that symbols are not negative.
    pub fn at_least(&self, min: i64) -> bool {
        match self {
            Dim::Known(n) => *n >= min,
            Dim::Unknown => false,
            Dim::Sym(p) => p.at_least(min, 3),
        }
    }

    /// Is the smaller of `other` and a positive number: where the two broadcast, `other` results.
    pub fn is_capped(&self, other: &Dim) -> bool {
        let (Dim::Sym(p), Some(other)) = (self, other.poly()) else { return false };
        let Some(Atom::Op(DimOp::Min, a, b)) = p.single_atom() else { return false };
        let positive = |p: &Poly| p.as_constant().is_some_and(|c| c > 0);
        (**a == other && positive(b)) || (**b == other && positive(a))
    }

    /// Every symbol replaced by what `bind` gives for it; others stay.
    pub fn substitute(&self, bind: &dyn Fn(&Atom) -> Option<Dim>) -> Dim {
        match self {
            Dim::Sym(p) => p.substitute(bind),
            _ => self.clone(),
        }
    }

    /// Calls `f` on every symbol in the expression.
    pub fn for_each_symbol(&self, f: &mut dyn FnMut(&Atom)) {
        if let Dim::Sym(p) = self {
            p.for_each_symbol(f);
        }
    }

    fn poly(&self) -> Option<Poly> {
        match self {
            Dim::Known(n) => Some(Poly::constant_of(*n)),
            Dim::Sym(p) => Some((**p).clone()),
            Dim::Unknown => None,
        }
    }

    /// `self / other` when the division leaves no rest whatever the symbols are.
    pub fn div_exact(&self, other: &Dim) -> Option<Dim> {
        self.poly()?.div_exact(&other.poly()?).map(Poly::into_dim)
    }

    /// Quotient rounded towards minus infinity; unknown for a divisor that may be zero.
    pub fn floor_div(&self, other: &Dim) -> Dim {
        let (Some(a), Some(b)) = (self.poly(), other.poly()) else { return Dim::Unknown };
        if other.known() == Some(0) {
            return Dim::Unknown;
        }
        if let (Some(a), Some(b)) = (self.known(), other.known()) {
            return Dim::Known(div_floor(a, b));
        }
        if let Some(exact) = a.div_exact(&b) {
            return exact.into_dim();
        }
        match other.known() {
            Some(c) if c > 0 => {
                let (whole, rest) = a.split_multiples(c);
                let quotient = match (rest.as_constant(), rest.nested_floor(c)) {
                    (Some(r), _) => Dim::Known(div_floor(r, c)),
                    (None, Some(flat)) => flat,
                    (None, None) => Dim::op(DimOp::FloorDiv, rest, b),
                };
                &whole.into_dim() + &quotient
            }
            _ => Dim::op(DimOp::FloorDiv, a, b),
        }
    }

    /// Quotient rounded towards plus infinity.
    pub fn ceil_div(&self, other: &Dim) -> Dim {
        (&(self + other) - &Dim::Known(1)).floor_div(other)
    }

    /// Remainder with the sign of the divisor.
    pub fn modulo(&self, other: &Dim) -> Dim {
        let (Some(a), Some(b)) = (self.poly(), other.poly()) else { return Dim::Unknown };
        match (self.known(), other.known()) {
            (_, Some(0)) => Dim::Unknown,
            (Some(a), Some(b)) => Dim::Known(a - b * div_floor(a, b)),
            _ if a.div_exact(&b).is_some() => Dim::Known(0),
            (_, Some(c)) if c > 0 => {
                let (_, rest) = a.split_multiples(c);
                match rest.as_constant() {
                    Some(r) => Dim::Known(r - c * div_floor(r, c)),
                    None => Dim::op(DimOp::Mod, rest, b),
                }
            }
            _ => Dim::op(DimOp::Mod, a, b),
        }
    }

    /// The smaller of the two.
    pub fn smaller(&self, other: &Dim) -> Dim {
        self.extremum(other, DimOp::Min)
    }

    /// The larger of the two.
    pub fn larger(&self, other: &Dim) -> Dim {
        self.extremum(other, DimOp::Max)
    }

    fn extremum(&self, other: &Dim, op: DimOp) -> Dim {
        let (Some(a), Some(b)) = (self.poly(), other.poly()) else { return Dim::Unknown };
        let self_smaller = (other - self).at_least(0);
        let other_smaller = (self - other).at_least(0);
        match op {
            _ if self_smaller && other_smaller => self.clone(),
            DimOp::Min if self_smaller => self.clone(),
            DimOp::Min if other_smaller => other.clone(),
            DimOp::Max if self_smaller => other.clone(),
            DimOp::Max if other_smaller => self.clone(),
            _ if a <= b => Dim::op(op, a, b),
            _ => Dim::op(op, b, a),
        }
    }

    fn op(op: DimOp, a: Poly, b: Poly) -> Dim {
        Poly::atom(Atom::Op(op, Arc::new(a), Arc::new(b))).into_dim()
    }

    /// Product of dims.
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        dims.into_iter().fold(Dim::Known(1), |a, b| &a * b)
    }

    /// Sum of dims.
    pub fn sum<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        dims.into_iter().fold(Dim::Known(0), |a, b| &a + b)
    }
}

/// All dims as sizes, when all are known and not negative.
pub fn known_sizes(shape: &[Dim]) -> Option<Vec<usize>> {
    shape.iter().map(Dim::size).collect()
}

macro_rules! arithmetic {
    ($trait:ident, $method:ident, $checked:ident, |$a:ident, $b:ident| $poly:expr) => {
        impl std::ops::$trait<&Dim> for &Dim {
            type Output = Dim;
            fn $method(self, other: &Dim) -> Dim {
                if let (Dim::Known(x), Dim::Known(y)) = (self, other) {
                    return x.$checked(*y).map_or(Dim::Unknown, Dim::Known);
                }
                let (Some($a), Some($b)) = (self.poly(), other.poly()) else {
                    return Dim::Unknown;
                };
                $poly.map_or(Dim::Unknown, Poly::into_dim)
            }
        }
    };
}
arithmetic!(Add, add, checked_add, |a, b| a.add(&b, 1));
arithmetic!(Sub, sub, checked_sub, |a, b| a.add(&b, -1));
arithmetic!(Mul, mul, checked_mul, |a, b| a.mul(&b));

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim::Known(n)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        i64::try_from(n).map_or(Dim::Unknown, Dim::Known)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Unknown => f.write_str("?"),
            Dim::Sym(p) => write!(f, "{p}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n() -> Dim {
        Dim::symbol("N")
    }

    #[test]
    fn polynomials_are_in_normal_form() {
        let a = &(&n() + &Dim::Known(1)) * &Dim::Known(64);
        let b = &(&n() * &Dim::Known(64)) + &Dim::Known(64);
        assert_eq!(a, b);
        assert_eq!(&a - &b, Dim::Known(0));
        assert_eq!(a.to_string(), "64*N + 64");
    }

    #[test]
    fn exact_division() {
        let total = Dim::product([&n(), &Dim::Known(49), &Dim::Known(64)]);
        assert_eq!(total.div_exact(&n()), Some(Dim::Known(49 * 64)));
        assert_eq!(total.div_exact(&Dim::Known(5)), None);
        let sum = &(&n() * &n()) + &n();
        assert_eq!(sum.div_exact(&(&n() + &Dim::Known(1))), Some(n()));
    }

    #[test]
    fn floor_division_splits_multiples() {
        let d = &(&n() * &Dim::Known(4)) + &Dim::Known(3);
        assert_eq!(d.floor_div(&Dim::Known(2)), &(&n() * &Dim::Known(2)) + &Dim::Known(1));
        assert_eq!(d.modulo(&Dim::Known(2)), Dim::Known(1));
        assert_eq!(Dim::Known(-3).floor_div(&Dim::Known(2)), Dim::Known(-2));
        let half = n().floor_div(&Dim::Known(2));
        assert_eq!(half.to_string(), "floor((N)/(2))");
        assert!(half.at_least(0));
        let again = (&half + &Dim::Known(1)).floor_div(&Dim::Known(2));
        assert_eq!(again.to_string(), "floor((N + 2)/(4))");
    }

    #[test]
    fn minima_are_bounded_by_their_operands() {
        let least = n().smaller(&Dim::Known(512));
        assert!((&n() - &least).at_least(0));
        assert!(!(&least - &n()).at_least(0));
        assert_eq!((&n() - &least).larger(&Dim::Known(0)), &n() - &least);
    }

    #[test]
    fn overflow_is_unknown() {
        let big = Dim::Known(i64::MAX);
        assert_eq!(&big + &Dim::Known(1), Dim::Unknown);
        assert_eq!(&(&n() * &big) * &big, Dim::Unknown);
    }

    #[test]
    fn substitution_evaluates() {
        let d = (&n() + &Dim::Known(1)).floor_div(&Dim::Known(2));
        let bound = d.substitute(&|a| matches!(a, Atom::Name(_)).then_some(Dim::Known(7)));
        assert_eq!(bound, Dim::Known(4));
    }
}
