//! The smallest elements of one weight or of all.

use super::sites::Site;
use crate::ir::Graph;

/// Marks the `count` lowest scores of all lists together. Of equal ones those in the later list go
/// first, and in a list those of higher index. Scores are not negative and no NaN.
pub(super) fn lowest(lists: &[&[f32]], count: usize) -> Vec<Vec<bool>> {
    let mut masks: Vec<Vec<bool>> = lists.iter().map(|l| vec![false; l.len()]).collect();
    // The order of floats that are not negative is that of their bits.
    let mut bits: Vec<u32> = lists.iter().flat_map(|l| l.iter().map(|v| v.to_bits())).collect();
    let count = count.min(bits.len());
    let Some(last) = count.checked_sub(1) else { return masks };
    let (below, threshold, _) = bits.select_nth_unstable(last);
    let threshold = *threshold;
    let mut ties = count - below.iter().filter(|b| **b < threshold).count();
    for (list, mask) in lists.iter().zip(&mut masks).rev() {
        for (v, gone) in list.iter().zip(mask).rev() {
            let tie = v.to_bits() == threshold && ties > 0;
            ties -= usize::from(tie);
            *gone = tie || v.to_bits() < threshold;
        }
    }
    masks
}

/// Sum of the magnitudes that stay, relative to all.
pub(super) fn kept_share(g: &Graph, site: &Site, gone: &[bool]) -> f64 {
    let data = site.magnitudes(g).unwrap_or_default();
    let all: f64 = data.iter().map(|v| f64::from(*v)).sum();
    let kept = data.iter().zip(gone).filter(|(_, gone)| !**gone);
    let kept: f64 = kept.map(|(v, _)| f64::from(*v)).sum();
    if all > 0.0 { kept / all } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(lists: &[&[f32]], count: usize) -> Vec<Vec<usize>> {
        let at = |m: Vec<bool>| (0..m.len()).filter(|i| m[*i]).collect();
        lowest(lists, count).into_iter().map(at).collect()
    }

    #[test]
    fn of_equal_scores_the_lower_index_stays() {
        assert_eq!(gone(&[&[1.0, 0.5, 1.0, 1.0]], 2), [[1, 3]]);
        assert_eq!(gone(&[&[1.0; 10]], 3), [[7, 8, 9]]);
        assert_eq!(gone(&[&[0.0, 2.0], &[0.0, 1.0]], 1), [vec![], vec![0]]);
    }

    #[test]
    fn counts_are_exact_whatever_the_ties() {
        for count in 0..=6 {
            let masks = lowest(&[&[1.0, 1.0, 0.0], &[1.0, 2.0, 1.0]], count);
            assert_eq!(masks.iter().flatten().filter(|m| **m).count(), count);
        }
        assert_eq!(lowest(&[], 3), Vec::<Vec<bool>>::new());
    }
}
