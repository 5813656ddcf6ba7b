//! Where nodes stand when a graph is drawn from top to bottom.
//!
//! Layers, as Sugiyama, Tagawa and Toda draw hierarchies (1981): each node in the layer below its
//! lowest predecessor; long edges pass through a place of their own in each layer between; orders
//! within layers that lessen crossings, by barycenters; then places as near to the neighbours as the
//! order and the widths allow, which is isotonic regression and solved exactly by pooling adjacent
//! violators (Barlow et al. 1972).

/// A layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    /// Center of each node and its layer.
    pub nodes: Vec<(f64, usize)>,
    /// For each edge the centers and layers that it passes between its ends.
    pub bends: Vec<Vec<(f64, usize)>>,
    /// Number of layers.
    pub layers: usize,
    /// Width of the whole.
    pub width: f64,
}

/// Space between neighbours in a layer.
const GAP: f64 = 18.0;

/// Width of the place through which an edge passes.
const LANE: f64 = 8.0;

/// Most places of edges; the longest edges go without and are drawn straight.
const MAX_PLACES: usize = 30_000;

/// Sweeps for orders and for places.
const SWEEPS: usize = 8;

/// Lays out nodes of these widths. Edges join a node and a later one.
///
/// # Panics
/// When an edge leads to an earlier node: a bug of the caller.
pub(super) fn layout(widths: &[f64], edges: &[(usize, usize)]) -> Layout {
    assert!(edges.iter().all(|(a, b)| a < b), "invariant: edges lead to later nodes");
    let layer = layers(widths.len(), edges);
    let mut net = Net::new(widths, edges, &layer);
    for sweep in 0..SWEEPS {
        net.sort(sweep % 2 == 0);
    }
    let mut best = net.rows.clone();
    let mut fewest = net.crossings();
    for sweep in 0..SWEEPS {
        net.sort(sweep % 2 == 1);
        let crossings = net.crossings();
        if crossings < fewest {
            (best, fewest) = (net.rows.clone(), crossings);
        }
    }
    net.rows = best;
    net.place();
    let left =
        (0..net.x.len()).map(|i| net.x[i] - net.widths[i] / 2.0).fold(f64::INFINITY, f64::min);
    let right = (0..net.x.len()).map(|i| net.x[i] + net.widths[i] / 2.0).fold(left, f64::max);
    let at = |i: usize| (net.x[i] - left, net.layer[i]);
    Layout {
        nodes: (0..widths.len()).map(at).collect(),
        bends: net.bends.iter().map(|bends| bends.iter().map(|i| at(*i)).collect()).collect(),
        layers: net.rows.len(),
        width: if widths.is_empty() { 0.0 } else { right - left },
    }
}

/// The layer of each node: one below its lowest predecessor; a node without one stands just above
/// its highest successor.
fn layers(n: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0usize; n];
    let mut outgoing = vec![Vec::new(); n];
    let mut is_source = vec![true; n];
    for (a, b) in edges {
        outgoing[*a].push(*b);
        is_source[*b] = false;
    }
    for a in 0..n {
        for b in &outgoing[a] {
            layer[*b] = layer[*b].max(layer[a] + 1);
        }
    }
    for a in (0..n).filter(|a| is_source[*a]) {
        let below = outgoing[a].iter().map(|b| layer[*b]).min();
        layer[a] = below.map_or(0, |l| l.saturating_sub(1));
    }
    layer
}

/// The number of layers up to which edges get places in the layers that they cross.
fn longest_routed(edges: &[(usize, usize)], layer: &[usize]) -> usize {
    let mut spans: Vec<usize> = edges.iter().map(|(a, b)| layer[*b] - layer[*a]).collect();
    spans.sort_unstable();
    let mut places = 0;
    let routed = spans.into_iter().take_while(|span| {
        places += span - 1;
        places <= MAX_PLACES
    });
    routed.last().unwrap_or(1)
}

/// Nodes and the places that edges pass, with their neighbours in the layers above and below.
struct Net {
    widths: Vec<f64>,
    layer: Vec<usize>,
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
    /// Members of each layer from left to right.
    rows: Vec<Vec<usize>>,
    bends: Vec<Vec<usize>>,
    x: Vec<f64>,
    /// Number of real nodes; what follows are places of edges.
    real: usize,
}

impl Net {
    fn new(widths: &[f64], edges: &[(usize, usize)], layer: &[usize]) -> Net {
        let real = widths.len();
        let mut net = Net {
            widths: widths.to_vec(),
            layer: layer.to_vec(),
            above: vec![Vec::new(); real],
            below: vec![Vec::new(); real],
            rows: Vec::new(),
            bends: Vec::with_capacity(edges.len()),
            x: Vec::new(),
            real,
        };
        let longest = longest_routed(edges, layer);
        for (a, b) in edges {
            let (from, to) = (layer[*a], layer[*b]);
            let mut bends = Vec::new();
            if to - from <= longest {
                let mut last = *a;
                for l in from + 1..to {
                    let place = net.add_place(l);
                    net.join(last, place);
                    bends.push(place);
                    last = place;
                }
                net.join(last, *b);
            }
            net.bends.push(bends);
        }
        net.rows = vec![Vec::new(); net.layer.iter().max().map_or(0, |l| l + 1)];
        for (i, l) in net.layer.iter().enumerate() {
            net.rows[*l].push(i);
        }
        net.x = vec![0.0; net.layer.len()];
        net
    }

    fn add_place(&mut self, layer: usize) -> usize {
        self.widths.push(LANE);
        self.layer.push(layer);
        self.above.push(Vec::new());
        self.below.push(Vec::new());
        self.layer.len() - 1
    }

    fn join(&mut self, a: usize, b: usize) {
        self.below[a].push(b);
        self.above[b].push(a);
    }

    /// Position of each node in its layer.
    fn positions(&self) -> Vec<usize> {
        let mut at = vec![0; self.layer.len()];
        for row in &self.rows {
            row.iter().enumerate().for_each(|(i, node)| at[*node] = i);
        }
        at
    }

    /// Orders each layer by the mean position of the neighbours above, or below.
    fn sort(&mut self, downwards: bool) {
        let mut at = self.positions();
        let neighbours = if downwards { &self.above } else { &self.below };
        let count = self.rows.len();
        for step in 0..count {
            let row = &mut self.rows[if downwards { step } else { count - 1 - step }];
            let key = |node: &usize| {
                let of = &neighbours[*node];
                match of.len() {
                    0 => at[*node] as f64,
                    n => of.iter().map(|o| at[*o] as f64).sum::<f64>() / n as f64,
                }
            };
            let mut keyed: Vec<(f64, usize)> = row.iter().map(|n| (key(n), *n)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *row = keyed.into_iter().map(|(_, node)| node).collect();
            row.iter().enumerate().for_each(|(i, node)| at[*node] = i);
        }
    }

    /// Number of pairs of edges that cross, by inversions counted in a Fenwick tree.
    fn crossings(&self) -> u64 {
        let at = self.positions();
        let mut total = 0;
        for row in &self.rows {
            let mut ends: Vec<(usize, usize)> = Vec::new();
            for node in row {
                ends.extend(self.below[*node].iter().map(|b| (at[*node], at[*b])));
            }
            ends.sort_unstable();
            let size = ends.iter().map(|e| e.1 + 1).max().unwrap_or(0);
            let mut tree = vec![0u64; size + 1];
            for (seen, (_, end)) in (0u64..).zip(&ends) {
                let mut upto = 0;
                let mut i = end + 1;
                while i > 0 {
                    upto += tree[i];
                    i &= i - 1;
                }
                total += seen - upto;
                let mut i = end + 1;
                while i <= size {
                    tree[i] += 1;
                    i += i & i.wrapping_neg();
                }
            }
        }
        total
    }

    /// Gives every node its place.
    fn place(&mut self) {
        for row in &self.rows {
            let mut left = 0.0;
            for node in row {
                self.x[*node] = left + self.widths[*node] / 2.0;
                left += self.widths[*node] + GAP;
            }
            let shift = left / 2.0;
            row.iter().for_each(|node| self.x[*node] -= shift);
        }
        for sweep in 0..2 * SWEEPS {
            let count = self.rows.len();
            for step in 0..count {
                let row = if sweep % 2 == 0 { step } else { count - 1 - step };
                // Sweeps that look both ways balance; the last two make chains straight.
                let both = (2 * SWEEPS - 6..2 * SWEEPS - 2).contains(&sweep);
                self.settle(row, both || sweep % 2 == 0, both || sweep % 2 == 1);
            }
        }
    }

    /// Moves the members of a layer as near as they can be to the means of their neighbours.
    fn settle(&mut self, row: usize, above: bool, below: bool) {
        let row = &self.rows[row];
        let mut wishes = Vec::with_capacity(row.len());
        let mut offset = 0.0;
        let mut last: Option<usize> = None;
        for node in row {
            if let Some(last) = last {
                offset += (self.widths[last] + self.widths[*node]) / 2.0 + GAP;
            }
            last = Some(*node);
            let up = self.above[*node].iter().filter(|_| above);
            let of: Vec<usize> =
                up.chain(self.below[*node].iter().filter(|_| below)).copied().collect();
            // Edges that run on through places are kept straight first.
            let is_place = |n: usize| n >= self.real;
            let weight = if is_place(*node) && of.iter().any(|n| is_place(*n)) { 8.0 } else { 1.0 };
            let (wish, weight) = match of.len() {
                0 => (self.x[*node], 0.05),
                n => (of.iter().map(|o| self.x[*o]).sum::<f64>() / n as f64, weight),
            };
            wishes.push((wish - offset, weight, offset));
        }
        let pairs: Vec<(f64, f64)> = wishes.iter().map(|w| (w.0, w.1)).collect();
        for ((node, place), (_, _, offset)) in row.iter().zip(isotonic(&pairs)).zip(&wishes) {
            self.x[*node] = place + offset;
        }
    }
}

/// The sequence that never falls and has the least squared distance to the wishes by their weights.
fn isotonic(wishes: &[(f64, f64)]) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (wish, weight) in wishes {
        let mut block = (*wish, *weight, 1);
        while let Some(last) = blocks.last().filter(|last| last.0 > block.0) {
            let weight = last.1 + block.1;
            let mean = (last.0 * last.1 + block.0 * block.1) / weight;
            block = (mean, weight, last.2 + block.2);
            blocks.pop();
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|(mean, _, n)| std::iter::repeat_n(*mean, *n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(l: &Layout, widths: &[f64]) -> bool {
        let mut at: Vec<(usize, f64, f64)> = l
            .nodes
            .iter()
            .zip(widths)
            .map(|((x, layer), w)| (*layer, x - w / 2.0, x + w / 2.0))
            .collect();
        at.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        at.windows(2).any(|p| p[0].0 == p[1].0 && p[0].2 + GAP > p[1].1 + 1e-6)
    }

    #[test]
    fn a_chain_is_straight_and_a_skip_goes_around() {
        let widths = [80.0; 5];
        let l = layout(&widths, &[(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]);
        assert_eq!(l.nodes.iter().map(|n| n.1).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((l.bends[4].len(), l.layers), (3, 5));
        assert!(l.bends[4].iter().zip(&l.nodes[1..]).all(|(b, n)| (b.0 - n.0).abs() >= 44.0));
        let straight = layout(&widths[..3], &[(0, 1), (1, 2)]);
        assert!(straight.nodes.iter().all(|n| (n.0 - straight.nodes[0].0).abs() < 1e-6));
    }

    #[test]
    fn crossings_are_found_and_removed() {
        let widths = [40.0; 6];
        let l = layout(&widths, &[(0, 5), (1, 4), (2, 3)]);
        let x = |i: usize| l.nodes[i].0;
        assert!((x(0) < x(1)) == (x(5) < x(4)) && (x(1) < x(2)) == (x(4) < x(3)));
        assert!(!overlaps(&l, &widths));
    }

    #[test]
    fn large_graphs_are_laid_out_without_overlaps() {
        let n = 5000;
        let widths: Vec<f64> = (0..n).map(|i| 40.0 + (i * 37 % 90) as f64).collect();
        let mut edges = Vec::new();
        for i in 1..n {
            edges.push((i - 1 - (i * 7 % 3).min(i - 1), i));
            if i > 40 && i % 5 == 0 {
                edges.push((i - 40, i));
            }
            if i % 50 == 0 {
                edges.push((0, i));
            }
        }
        let l = layout(&widths, &edges);
        assert!(!overlaps(&l, &widths));
        assert_eq!(layout(&widths, &edges), l);
    }

    #[test]
    fn nothing_has_no_size() {
        assert_eq!(layout(&[], &[]), Layout::default());
    }

    #[test]
    fn pooled_wishes_never_fall() {
        let got = isotonic(&[(1.0, 1.0), (3.0, 1.0), (2.0, 3.0), (0.5, 1.0), (9.0, 1.0)]);
        assert_eq!(got, [1.0, 1.9, 1.9, 1.9, 9.0]);
    }
}
