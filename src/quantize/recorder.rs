//! Magnitudes counted as they come, in one pass: bins whose width doubles when a larger magnitude is
//! met.
//!
//! The width is a power of two, and doubling it joins bins by twos, so that the counts are those of
//! bins of the last width from the start: nothing is lost by not knowing the range before, and the
//! order of the data does not show. More than half of the bins lie within the range.

use multiversion::multiversion;

use super::observe::{Counts, Histogram};

/// Bins of a recorder.
const BINS: usize = 4096;
/// Exact zeros are counted in turn here, so that a count never waits for the one before.
const ZEROS: usize = 8;
/// Where elements go that are not finite.
const LOST: usize = BINS + ZEROS;
/// Elements whose bins are found together.
const CHUNK: usize = 256;

/// Bits of a packed count that hold how many elements there are; the others hold their weights.
const COUNT_BITS: u32 = 24;

/// Counts of magnitudes: of each element once, and as often as its weight says.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    /// Width of a bin: the least power of two for which [`Recorder::amax`] is below the last bin's
    /// end; 0 before anything was seen but zeros.
    width: f32,
    /// Largest finite magnitude.
    amax: f32,
    /// [`LOST`] and one more, or none before there is data.
    slots: Vec<[u64; 2]>,
    /// What is to be added to the slots: both counts in one number, for one addition per element. Two
    /// in turn, so that neighbours of one bin do not wait for one another.
    packed: [Vec<u64>; 2],
    /// The most that a packed count may be by now: elements, and their weights.
    held: (u64, u64),
}

impl Recorder {
    /// Takes elements in, of which `amax` is the largest finite magnitude. In turn, `run` elements have
    /// each of the weights; then it begins anew.
    pub fn observe(&mut self, data: &[f32], amax: f32, weights: &[u32], run: usize) {
        let heaviest = u64::from(weights.iter().copied().max().unwrap_or(0));
        let mut weights = Cycle {
            counts: weights.iter().map(|w| 1 | u64::from(*w) << COUNT_BITS).collect(),
            run: run.max(1),
            at: 0,
        };
        self.reach(amax);
        let (per_bin, most) = (self.per_bin(), self.amax);
        let (mut full, mut counts) = ([0.0f32; CHUNK], [1; CHUNK]);
        for chunk in data.chunks(CHUNK) {
            let n = chunk.len();
            self.hold(n as u64, heaviest);
            full[..n].copy_from_slice(chunk);
            weights.next(&mut counts[..n]);
            counts[n..].fill(0);
            let places = places(&full, per_bin, most);
            let [even, odd] = &mut self.packed;
            let (even, odd) = (&mut even[..=LOST], &mut odd[..=LOST]);
            for i in 0..CHUNK / 2 {
                even[places[2 * i] as usize] += counts[2 * i];
                odd[places[2 * i + 1] as usize] += counts[2 * i + 1];
            }
        }
    }

    /// Makes sure that so many more elements of at most this weight can be counted.
    fn hold(&mut self, elements: u64, weight: u64) {
        let held = (self.held.0 + elements, self.held.1 + elements * weight);
        if held.0 >> COUNT_BITS == 0 && held.1 >> (64 - COUNT_BITS) == 0 {
            self.held = held;
        } else {
            self.unpack();
            self.held = (elements, elements * weight);
        }
    }

    /// Adds what is packed to the slots.
    fn unpack(&mut self) {
        for packed in &mut self.packed {
            for (slot, packed) in self.slots.iter_mut().zip(packed) {
                *slot = total(slot, std::mem::take(packed));
            }
        }
        self.held = (0, 0);
    }

    /// All slots, with what is packed.
    fn totals(&self) -> Vec<[u64; 2]> {
        let [even, odd] = &self.packed;
        let packed = even.iter().zip(odd).map(|(a, b)| a + b);
        self.slots.iter().zip(packed).map(|(slot, packed)| total(slot, packed)).collect()
    }

    fn per_bin(&self) -> f32 {
        if self.width > 0.0 { 1.0 / self.width } else { 0.0 }
    }

    /// Makes the bins reach this magnitude.
    fn reach(&mut self, amax: f32) {
        if self.slots.is_empty() {
            self.slots = vec![[0; 2]; LOST + 1];
            self.packed = [vec![0; LOST + 1], vec![0; LOST + 1]];
        }
        if amax <= self.amax {
            return;
        }
        let width = width_for(amax);
        let joined = shift(self.width, width);
        if self.amax > 0.0 && joined > 0 {
            self.unpack();
            for i in 1..BINS {
                let [once, weighted] = std::mem::take(&mut self.slots[i]);
                let to = &mut self.slots[i >> joined];
                to[0] += once;
                to[1] += weighted;
            }
        }
        (self.amax, self.width) = (amax, width);
    }

    /// Takes in what another has counted.
    pub fn merge(&mut self, other: &Recorder) {
        if other.slots.is_empty() {
            return;
        }
        self.reach(other.amax);
        let joined = if other.width > 0.0 { shift(other.width, self.width) } else { 0 };
        for (i, [once, weighted]) in other.totals().into_iter().enumerate() {
            let to = &mut self.slots[if i < BINS { i >> joined } else { i }];
            to[0] += once;
            to[1] += weighted;
        }
    }

    /// The counts up to the largest magnitude.
    pub fn histogram(&self) -> Histogram {
        let used = (self.amax * self.per_bin()) as usize + 1;
        let slots = self.totals();
        let counts = |which: usize| {
            let all = |slots: &[[u64; 2]]| slots.iter().map(|s| s[which]).collect::<Vec<u64>>();
            let mut bins = all(slots.get(..used.min(BINS)).unwrap_or(&[[0; 2]]));
            let zeros = all(slots.get(BINS..LOST).unwrap_or_default()).iter().sum();
            bins[0] += zeros;
            Counts { bins: bins.into(), zeros }
        };
        Histogram::new(self.amax, f64::from(self.width), counts(0), counts(1))
    }
}

/// Packed counts in turn, each of them so many times.
struct Cycle {
    counts: Vec<u64>,
    run: usize,
    at: usize,
}

impl Cycle {
    /// Writes the next ones.
    fn next(&mut self, mut to: &mut [u64]) {
        let (run, all) = (self.run, self.counts.len() * self.run);
        while !to.is_empty() && all > 0 {
            let (which, inside) = (self.at / run, self.at % run);
            let n = if run == 1 { self.counts.len() - which } else { run - inside }.min(to.len());
            let (now, rest) = to.split_at_mut(n);
            match run {
                1 => now.copy_from_slice(&self.counts[which..which + n]),
                _ => now.fill(self.counts[which]),
            }
            (to, self.at) = (rest, (self.at + n) % all);
        }
    }
}

/// A slot with what is packed for it.
fn total([once, weighted]: &[u64; 2], packed: u64) -> [u64; 2] {
    [once + (packed & ((1 << COUNT_BITS) - 1)), weighted + (packed >> COUNT_BITS)]
}

/// The slots of elements. Masks instead of branches, so that one instruction does several.
#[multiversion(targets = "simd")]
fn places(xs: &[f32; CHUNK], per_bin: f32, most: f32) -> [u32; CHUNK] {
    let mut places = [0u32; CHUNK];
    for i in 0..CHUNK {
        let a = xs[i].abs();
        let (zero, fits) = (-i32::from(a == 0.0), -i32::from(a <= most));
        let bin = (whole(a * per_bin) & !zero) | ((BINS + i % ZEROS) as i32 & zero);
        places[i] = ((bin & fits) | (LOST as i32 & !fits)).cast_unsigned();
    }
    places
}

/// The integer part of a number from 0 to 2^22: what is behind the point does not fit beside 2^23.
/// Unlike a cast, it is the same few instructions for several numbers at once.
#[inline(always)]
fn whole(x: f32) -> i32 {
    const LARGE: f32 = 8_388_608.0;
    let rounded = x + LARGE;
    let up = i32::from(rounded - LARGE > x);
    (rounded.to_bits() & 0x7f_ffff) as i32 - up
}

/// The least power of two `w`, no subnormal, with `amax < BINS * w`.
fn width_for(amax: f32) -> f32 {
    const MANTISSA: u32 = (1 << 23) - 1;
    f32::from_bits(((amax / BINS as f32).to_bits() & !MANTISSA) + MANTISSA + 1)
}

/// How many times `from` doubles on its way to `to`, both powers of two.
fn shift(from: f32, to: f32) -> u32 {
    let exponent = |w: f32| w.to_bits() >> 23;
    exponent(to).saturating_sub(exponent(from)).min(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amax(data: &[f32]) -> f32 {
        data.iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
    }

    fn counted(data: &[f32], weight: u32) -> Recorder {
        let mut r = Recorder::default();
        r.observe(data, amax(data), &[weight], data.len());
        r
    }

    #[test]
    fn growing_and_merging_give_what_the_final_width_would_have() {
        let data: Vec<f32> =
            (0..5000).map(|i| ((i * 37) % 1001) as f32 * 1.003f32.powi(i) - 4.0).collect();
        let want = counted(&data, 3);
        let mut grown = Recorder::default();
        for part in data.chunks(7) {
            grown.observe(part, amax(part), &[3], 1);
        }
        assert_eq!(grown.histogram(), want.histogram());
        let mut merged = counted(&data[..100], 3);
        let mut other = Recorder::default();
        other.observe(&data[100..], amax(&data[100..]), &[3; 4], 7);
        merged.merge(&Recorder::default());
        merged.merge(&other);
        assert_eq!(merged.histogram(), want.histogram());
        other.merge(&counted(&data[..100], 3));
        assert_eq!(other.histogram(), want.histogram());
        let bins = want.histogram().counts().bins.len();
        assert!((BINS / 2..=BINS).contains(&bins), "{bins}");
    }

    #[test]
    fn whole_numbers_are_cut_off_not_rounded() {
        for x in [0.0f32, 0.4, 0.5, 0.9999999, 1.0, 1.5, 2.0, 2.5, 3.0, 4094.5, 4095.9995] {
            assert_eq!(whole(x), x as i32, "{x}");
        }
    }

    #[test]
    fn counts_are_exact() {
        let data = [0.0, -0.0, 0.5, 1.0, -1.5, 2047.5, 4095.5, f32::NAN, f32::INFINITY];
        let h = counted(&data, 2).histogram();
        let (once, twice) = (h.counts(), h.weighted());
        assert_eq!((once.zeros, twice.zeros), (2, 4));
        assert_eq!((once.bins[0], once.bins[1], once.bins[2047], once.bins[4095]), (3, 2, 1, 1));
        assert_eq!((once.total(), twice.total()), (7, 14));
        assert_eq!((h.amax(), h.width()), (4095.5, 1.0));
    }

    #[test]
    fn weights_run_through_the_data() {
        let data: Vec<f32> = (0..600).map(|i| (i / 100) as f32).collect();
        let mut r = Recorder::default();
        r.observe(&data, 5.0, &[1, 0, 10], 100);
        let h = r.histogram();
        let bin = |x: f32| (f64::from(x) / h.width()) as usize;
        let weighted: Vec<u64> = (1..6).map(|x| h.weighted().bins[bin(x as f32)]).collect();
        assert_eq!((h.weighted().zeros, &weighted[..]), (100, &[0, 1000, 100, 0, 1000][..]));
        assert_eq!(h.counts().total(), 600);
    }

    #[test]
    fn many_and_heavy_elements_do_not_overflow() {
        let heavy = vec![1.0; 1000];
        let mut r = Recorder::default();
        for _ in 0..3 {
            r.observe(&heavy, 1.0, &[u32::MAX], 1000);
        }
        let h = r.histogram();
        let weighted: u64 = h.weighted().bins.iter().sum();
        assert_eq!((h.counts().total(), weighted), (3000, 3000 * u64::from(u32::MAX)));
        let mut r = Recorder::default();
        let many = vec![1.0; 1 << 20];
        for _ in 0..17 {
            r.observe(&many, 1.0, &[0], 1);
        }
        assert_eq!(r.histogram().counts().total(), 17 << 20);
    }

    #[test]
    fn degenerate_ranges_are_counted() {
        for largest in [0.0, f32::from_bits(1), f32::MAX] {
            let h = counted(&[0.0, largest], 1).histogram();
            assert_eq!(h.counts().total(), 2, "{largest}");
            assert_eq!(h.amax(), largest);
        }
        let mut r = counted(&[f32::from_bits(1)], 1);
        r.observe(&[f32::MAX], f32::MAX, &[1], 1);
        assert_eq!(r.histogram().counts().total(), 2);
        assert_eq!(Recorder::default().histogram().counts().total(), 0);
    }
}
