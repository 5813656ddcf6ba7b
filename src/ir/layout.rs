//! Where the channels of a tensor lie among its elements.

use std::ops::Range;

/// Channels along an axis: each has runs of elements that lie side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Channels along the axis, 1 without one.
    pub(crate) channels: usize,
    /// Elements in a run.
    inner: usize,
}

/// The channels of a row of elements.
pub(crate) enum Row {
    /// All elements are of this one.
    Of(usize),
    /// An element of each, in turn.
    Across,
}

impl Layout {
    /// Of a tensor of these dims with channels along `axis`, or all of one.
    pub(crate) fn new(dims: &[usize], axis: Option<usize>) -> Layout {
        let inner = |dims: &[usize]| dims.iter().product::<usize>().max(1);
        match axis {
            Some(a) => Layout { channels: dims[a], inner: inner(&dims[a + 1..]) },
            None => Layout { channels: 1, inner: inner(dims) },
        }
    }

    /// The rows of `n` elements: runs, or where a run is one element, one run of each channel.
    pub(crate) fn rows(self, n: usize) -> impl Iterator<Item = (Range<usize>, Row)> {
        let across = self.inner == 1;
        let (length, channels) = (if across { self.channels } else { self.inner }, self.channels);
        (0..n.checked_div(length).unwrap_or(0)).map(move |i| {
            let row = if across { Row::Across } else { Row::Of(i % channels) };
            (i * length..(i + 1) * length, row)
        })
    }

    /// The channel of an element.
    pub(crate) fn channel(self, i: usize) -> usize {
        i / self.inner % self.channels
    }
}
