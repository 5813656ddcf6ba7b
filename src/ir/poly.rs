//! Polynomials with integer coefficients over symbols: what a [`Dim`] is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Dim;

/// A sum of integer multiples of products of [`Atom`]s.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poly(pub(super) BTreeMap<Monomial, i64>);

/// A product of atoms with their powers, sorted by atom.
pub(super) type Monomial = Vec<(Atom, u32)>;

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

pub(super) fn div_floor(a: i64, b: i64) -> i64 {
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
    pub(super) fn constant_of(n: i64) -> Poly {
        let mut terms = BTreeMap::new();
        if n != 0 {
            terms.insert(Vec::new(), n);
        }
        Poly(terms)
    }

    pub(super) fn atom(atom: Atom) -> Poly {
        Poly(BTreeMap::from([(vec![(atom, 1)], 1)]))
    }

    pub(super) fn constant(&self) -> i64 {
        self.0.get(&Vec::new()).copied().unwrap_or(0)
    }

    pub(super) fn as_constant(&self) -> Option<i64> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    /// Provably at least `min`, looking into so many minima, maxima and quotients.
    pub(super) fn at_least(&self, min: i64, depth: u32) -> bool {
        let positive = |(m, &c): (&Monomial, &i64)| m.is_empty() || (c > 0 && nonnegative(m));
        (self.constant() >= min && self.0.iter().all(positive))
            || (depth > 0 && self.lower_bounds().any(|p| p.at_least(min, depth - 1)))
    }

    /// Polynomials that are never larger, each with one opaque operation less.
    pub(super) fn lower_bounds(&self) -> impl Iterator<Item = Poly> + '_ {
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

    pub(super) fn at_least_zero(&self) -> bool {
        Dim::Sym(Arc::new(self.clone())).at_least(0)
    }

    pub(super) fn single_atom(&self) -> Option<&Atom> {
        let (m, &c) = self.0.iter().next().filter(|_| self.0.len() == 1)?;
        match &m[..] {
            [(atom, 1)] if c == 1 => Some(atom),
            _ => None,
        }
    }

    pub(super) fn into_dim(self) -> Dim {
        match self.as_constant() {
            Some(n) => Dim::Known(n),
            None if self.0.len() > MAX_TERMS => Dim::Unknown,
            None => Dim::Sym(Arc::new(self)),
        }
    }

    pub(super) fn add_term(&mut self, m: Monomial, c: i64) -> Option<()> {
        let sum = self.0.get(&m).copied().unwrap_or(0).checked_add(c)?;
        if sum == 0 {
            self.0.remove(&m);
        } else {
            self.0.insert(m, sum);
        }
        Some(())
    }

    pub(super) fn add(&self, other: &Poly, sign: i64) -> Option<Poly> {
        let mut out = self.clone();
        for (m, &c) in &other.0 {
            out.add_term(m.clone(), c.checked_mul(sign)?)?;
        }
        Some(out)
    }

    pub(super) fn mul(&self, other: &Poly) -> Option<Poly> {
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

    pub(super) fn div_exact(&self, other: &Poly) -> Option<Poly> {
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
    pub(super) fn split_multiples(&self, c: i64) -> (Poly, Poly) {
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
    pub(super) fn nested_floor(&self, c: i64) -> Option<Dim> {
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

    pub(super) fn substitute(&self, bind: &dyn Fn(&Atom) -> Option<Dim>) -> Dim {
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

    pub(super) fn for_each_symbol(&self, f: &mut dyn FnMut(&Atom)) {
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
