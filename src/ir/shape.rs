//! Symbolic dims: integers that may depend on named symbols.
//!
//! A [`Dim`] is a polynomial with integer coefficients over symbols and a few opaque operations.
//! It is kept in normal form, so equal polynomials are equal values. Symbols stand for sizes and
//! are therefore never negative.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// A sum of integer multiples of products of [`Atom`]s.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poly(BTreeMap<Monomial, i64>);

/// A product of atoms with their powers, sorted by atom.
type Monomial = Vec<(Atom, u32)>;

/// What a [`Poly`] does not look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A named symbol (`dim_param`).
    Name(Arc<str>),
    /// A size that only the running model knows, distinct from every other.
    Fresh(u64),
    /// An operation that has no polynomial form.
    Op(DimOp, Arc<Poly>, Arc<Poly>),
}

/// Operations on dims that are kept as they are when they do not simplify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DimOp {
    /// Quotient rounded towards minus infinity.
    FloorDiv,
    /// Remainder with the sign of the divisor.
    Mod,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

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

fn div_floor(a: i64, b: i64) -> i64 {
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && ((a < 0) != (b < 0)) { q - 1 } else { q }
}

fn nonnegative(m: &Monomial) -> bool {
    m.iter().all(|(atom, power)| {
        power % 2 == 0
            || match atom {
                Atom::Name(_) | Atom::Fresh(_) => true,
                Atom::Op(DimOp::Mod, _, b) => b.as_constant().is_some_and(|c| c > 0),
                Atom::Op(DimOp::FloorDiv, a, b) => a.at_least_zero() && b.at_least_zero(),
                Atom::Op(DimOp::Min, a, b) => a.at_least_zero() && b.at_least_zero(),
                Atom::Op(DimOp::Max, a, b) => a.at_least_zero() || b.at_least_zero(),
            }
    })
}

/// Terms beyond which an expression is given up as unknown.
const MAX_TERMS: usize = 64;

impl Poly {
    fn constant_of(n: i64) -> Poly {
        let mut terms = BTreeMap::new();
        if n != 0 {
            terms.insert(Vec::new(), n);
        }
        Poly(terms)
    }

    fn atom(atom: Atom) -> Poly {
        Poly(BTreeMap::from([(vec![(atom, 1)], 1)]))
    }

    fn constant(&self) -> i64 {
        self.0.get(&Vec::new()).copied().unwrap_or(0)
    }

    fn as_constant(&self) -> Option<i64> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    /// Provably at least `min`, looking into so many minima, maxima and quotients.
    fn at_least(&self, min: i64, depth: u32) -> bool {
        let positive = |(m, &c): (&Monomial, &i64)| m.is_empty() || (c > 0 && nonnegative(m));
        (self.constant() >= min && self.0.iter().all(positive))
            || (depth > 0 && self.lower_bounds().any(|p| p.at_least(min, depth - 1)))
    }

    /// Polynomials that are never larger, each with one opaque operation less.
    fn lower_bounds(&self) -> impl Iterator<Item = Poly> + '_ {
        self.0.iter().flat_map(move |(m, &c)| {
            let bounds: Vec<&Poly> = match (&m[..], c > 0) {
                ([(Atom::Op(DimOp::Min, a, b), 1)], false) => vec![a, b],
                ([(Atom::Op(DimOp::Max, a, b), 1)], true) => vec![a, b],
                ([(Atom::Op(DimOp::FloorDiv, a, b), 1)], false)
                    if b.as_constant().is_some_and(|b| b > 0) && a.at_least_zero() =>
                {
                    vec![a]
                }
                _ => vec![],
            };
            bounds.into_iter().filter_map(move |bound| {
                let mut rest = self.clone();
                rest.0.remove(m);
                rest.add(&bound.mul(&Poly::constant_of(c))?, 1)
            })
        })
    }

    fn at_least_zero(&self) -> bool {
        Dim::Sym(Arc::new(self.clone())).at_least(0)
    }

    fn single_atom(&self) -> Option<&Atom> {
        let (m, &c) = self.0.iter().next().filter(|_| self.0.len() == 1)?;
        match &m[..] {
            [(atom, 1)] if c == 1 => Some(atom),
            _ => None,
        }
    }

    fn into_dim(self) -> Dim {
        match self.as_constant() {
            Some(n) => Dim::Known(n),
            None if self.0.len() > MAX_TERMS => Dim::Unknown,
            None => Dim::Sym(Arc::new(self)),
        }
    }

    fn add_term(&mut self, m: Monomial, c: i64) -> Option<()> {
        let sum = self.0.get(&m).copied().unwrap_or(0).checked_add(c)?;
        if sum == 0 {
            self.0.remove(&m);
        } else {
            self.0.insert(m, sum);
        }
        Some(())
    }

    fn add(&self, other: &Poly, sign: i64) -> Option<Poly> {
        let mut out = self.clone();
        for (m, &c) in &other.0 {
            out.add_term(m.clone(), c.checked_mul(sign)?)?;
        }
        Some(out)
    }

    fn mul(&self, other: &Poly) -> Option<Poly> {
        if self.0.len().saturating_mul(other.0.len()) > MAX_TERMS * MAX_TERMS {
            return None;
        }
        let mut out = Poly(BTreeMap::new());
        for (a, &x) in &self.0 {
            for (b, &y) in &other.0 {
                out.add_term(mul_monomials(a, b)?, x.checked_mul(y)?)?;
            }
        }
        Some(out)
    }

    fn div_exact(&self, other: &Poly) -> Option<Poly> {
        let (lead, &lead_c) = other.0.iter().next_back()?;
        let mut rest = self.clone();
        let mut quotient = Poly(BTreeMap::new());
        for _ in 0..=MAX_TERMS {
            let Some((m, &c)) = rest.0.iter().next_back() else { return Some(quotient) };
            if c % lead_c != 0 {
                return None;
            }
            let step = Poly(BTreeMap::from([(div_monomials(m, lead)?, c / lead_c)]));
            rest = rest.add(&step.mul(other)?, -1)?;
            quotient = quotient.add(&step, 1)?;
        }
        None
    }

    /// `(whole, rest)` with `self = c * whole + rest`, each term in one of the two, constants split.
    fn split_multiples(&self, c: i64) -> (Poly, Poly) {
        let (mut whole, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (m, &k) in &self.0 {
            let (q, r) = if m.is_empty() || k % c == 0 {
                (div_floor(k, c), k - c * div_floor(k, c))
            } else {
                (0, k)
            };
            if q != 0 {
                whole.insert(m.clone(), q);
            }
            if r != 0 {
                rest.insert(m.clone(), r);
            }
        }
        (Poly(whole), Poly(rest))
    }

    /// `floor(self / c)` as one division, when `self` is `floor(a / b) + k` with a known `b`:
    /// `floor((a + b * k) / (b * c))`.
    fn nested_floor(&self, c: i64) -> Option<Dim> {
        let mut terms = self.0.iter().filter(|(m, _)| !m.is_empty());
        let (monomial, factor) = terms.next().filter(|_| self.0.len() <= 2)?;
        let ([(Atom::Op(DimOp::FloorDiv, a, b), 1)], 1, None) =
            (&monomial[..], *factor, terms.next())
        else {
            return None;
        };
        let b = b.as_constant().filter(|b| *b > 0)?;
        let inner = a.add(&Poly::constant_of(b.checked_mul(self.constant())?), 1)?;
        Some(inner.into_dim().floor_div(&Dim::Known(b.checked_mul(c)?)))
    }

    fn substitute(&self, bind: &dyn Fn(&Atom) -> Option<Dim>) -> Dim {
        let mut sum = Dim::Known(0);
        for (m, &c) in &self.0 {
            let mut term = Dim::Known(c);
            for (atom, power) in m {
                let value = match (bind(atom), atom) {
                    (Some(dim), _) => dim,
                    (None, Atom::Op(op, a, b)) => {
                        let (a, b) = (a.substitute(bind), b.substitute(bind));
                        match op {
                            DimOp::FloorDiv => a.floor_div(&b),
                            DimOp::Mod => a.modulo(&b),
                            DimOp::Min => a.smaller(&b),
                            DimOp::Max => a.larger(&b),
                        }
                    }
                    (None, _) => Poly::atom(atom.clone()).into_dim(),
                };
                for _ in 0..*power {
                    term = &term * &value;
                }
            }
            sum = &sum + &term;
        }
        sum
    }

    fn for_each_symbol(&self, f: &mut dyn FnMut(&Atom)) {
        for (atom, _) in self.0.keys().flatten() {
            match atom {
                Atom::Op(_, a, b) => {
                    a.for_each_symbol(f);
                    b.for_each_symbol(f);
                }
                _ => f(atom),
            }
        }
    }
}

fn mul_monomials(a: &Monomial, b: &Monomial) -> Option<Monomial> {
    let mut powers: BTreeMap<Atom, u32> = a.iter().cloned().collect();
    for (atom, p) in b {
        let power = powers.entry(atom.clone()).or_insert(0);
        *power = power.checked_add(*p).filter(|&p| p <= 16)?;
    }
    Some(powers.into_iter().collect())
}

fn div_monomials(a: &Monomial, b: &Monomial) -> Option<Monomial> {
    let mut powers: BTreeMap<Atom, u32> = a.iter().cloned().collect();
    for (atom, p) in b {
        let power = powers.get_mut(atom)?;
        *power = power.checked_sub(*p)?;
    }
    Some(powers.into_iter().filter(|(_, p)| *p > 0).collect())
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

impl fmt::Display for Poly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        // Largest monomial first, so that the constant comes last.
        for (i, (m, &c)) in self.0.iter().rev().enumerate() {
            match (i, c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let factors: Vec<String> = (c.unsigned_abs() != 1 || m.is_empty())
                .then(|| c.unsigned_abs().to_string())
                .into_iter()
                .chain(m.iter().flat_map(|(a, p)| (0..*p).map(move |_| a.to_string())))
                .collect();
            f.write_str(&factors.join("*"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Name(name) => f.write_str(name),
            Atom::Fresh(n) => write!(f, "?{n}"),
            Atom::Op(DimOp::FloorDiv, a, b) => write!(f, "floor(({a})/({b}))"),
            Atom::Op(DimOp::Mod, a, b) => write!(f, "mod({a}, {b})"),
            Atom::Op(DimOp::Min, a, b) => write!(f, "min({a}, {b})"),
            Atom::Op(DimOp::Max, a, b) => write!(f, "max({a}, {b})"),
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
