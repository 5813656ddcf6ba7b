//! Charts: bars by layer, norms of channels, histograms.

use super::numbers::{bytes, count, short};
use super::scene::{Anchor, Ink, Scene, shorten};

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it is called on the command line: `size`, `channels:LAYER`.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// The figures.
    pub data: Data,
}

/// The figures of a chart.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A bar or two for each layer.
    Layers {
        /// What the numbers are.
        unit: Unit,
        /// The layers in the order in which they are drawn.
        rows: Vec<Row>,
    },
    /// Norms of the channels of a layer.
    Channels {
        /// In the original.
        before: Vec<f32>,
        /// Which of them stay; empty where it is not known.
        kept: Vec<bool>,
        /// In the result; may be empty.
        after: Vec<f32>,
        /// Which norm.
        norm: &'static str,
    },
    /// What is gained and what is left of the quality, one point for each model.
    Curve {
        /// What runs to the right, from 0 to 1.
        x: &'static str,
        /// What runs upwards.
        y: &'static str,
        /// The points from left to right, each with what it says when pointed at.
        points: Vec<(f64, f64, String)>,
    },
    /// Magnitudes of an activation.
    Histogram {
        /// Counts in equal bins from 0 to `amax`.
        bins: Vec<u64>,
        /// Upper end of the last bin.
        amax: f64,
        /// Magnitudes beyond this one are clipped.
        clip: f64,
        /// Share of the elements beyond it.
        clipped: f64,
        /// What chose it.
        method: String,
    },
}

/// What numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Multiply-accumulates.
    Macs,
    /// Decibels.
    Decibels,
}

/// A layer with the numbers of both models.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// In the original, where it has such a number.
    pub before: Option<f64>,
    /// In the result, where it has such a number.
    pub after: Option<f64>,
}

const WIDTH: f64 = 900.0;
const LABELS: f64 = 270.0;
const VALUES: f64 = 170.0;
const BAR: f64 = 8.0;
const PANEL: f64 = 120.0;
const LEFT: f64 = 70.0;

impl Chart {
    /// The chart as a picture.
    pub fn scene(&self) -> Scene {
        let mut scene = Scene { width: WIDTH, title: self.title.clone(), ..Scene::default() };
        match &self.data {
            Data::Layers { unit, rows } => layers(&mut scene, *unit, rows),
            Data::Channels { before, kept, after, norm } => {
                channels(&mut scene, before, kept, after, norm);
            }
            Data::Curve { x, y, points } => curve(&mut scene, x, y, points),
            Data::Histogram { bins, amax, clip, clipped, method } => {
                let line = format!(
                    "clip at {} by {method}: {} % of the elements beyond",
                    short(*clip),
                    short(100.0 * clipped)
                );
                histogram(&mut scene, bins, *amax, *clip, &line);
            }
        }
        scene
    }

    /// The chart with its title above, for a file of its own.
    pub fn titled(&self) -> Scene {
        let mut scene = self.scene();
        const HEAD: f64 = 34.0;
        scene.shapes.iter_mut().for_each(|s| s.shift(0.0, HEAD));
        scene.height += HEAD;
        let title = shorten(&self.title, 88);
        scene.text((12.0, 24.0), &title, 16, Anchor::Start, Ink::Text);
        scene
    }
}

impl Unit {
    fn show(self, x: f64) -> String {
        match self {
            Unit::Bytes => bytes(x.max(0.0) as usize),
            Unit::Macs => count(x),
            Unit::Decibels => format!("{x:.1} dB"),
        }
    }
}

fn legend(scene: &mut Scene, entries: &[(Ink, &str)], y: f64, mut x: f64) {
    for (ink, text) in entries {
        scene.rects(vec![[x, y - 9.0, 10.0, 10.0]], *ink, "");
        scene.text((x + 15.0, y), text, 12, Anchor::Start, Ink::Muted);
        x += 15.0 + text.chars().count() as f64 * 7.2 + 22.0;
    }
}

fn layers(scene: &mut Scene, unit: Unit, rows: &[Row]) {
    let values = rows.iter().flat_map(|r| [r.before, r.after]).flatten();
    let most = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
    let step = nice_step(most, 4.0);
    let end = (most / step).ceil().max(1.0) * step;
    let scale = (WIDTH - LABELS - VALUES) / end;
    let both = rows.iter().any(|r| r.before.is_some());
    let row_height = if both { 2.0 * BAR + 10.0 } else { BAR + 12.0 };
    let head = 44.0;
    scene.height = head + row_height * rows.len() as f64 + 12.0;
    if both {
        legend(scene, &[(Ink::Before, "before"), (Ink::After, "after")], 14.0, LABELS);
    }
    for i in 0..=(end / step).round() as usize {
        let (value, x) = (i as f64 * step, LABELS + i as f64 * step * scale);
        scene.line(vec![(x, head - 8.0), (x, scene.height - 8.0)], Ink::Grid, false);
        scene.text((x, head - 13.0), &unit.show(value), 10, Anchor::Middle, Ink::Muted);
    }
    for (i, row) in rows.iter().enumerate() {
        let top = head + row_height * i as f64;
        let middle = top + (row_height - 10.0) / 2.0 + 4.0;
        let name = shorten(&row.name, 35);
        scene.text((LABELS - 10.0, middle), &name, 12, Anchor::End, Ink::Text);
        let show = |v: Option<f64>| v.map_or("–".to_owned(), |v| unit.show(v));
        let label = match both {
            true => format!("{} → {}", show(row.before), show(row.after)),
            false => show(row.after),
        };
        let tip = format!("{}: {label}", row.name);
        let width = |v: f64| (v * scale).clamp(0.0, end * scale);
        if let Some(v) = row.before {
            scene.rects(vec![[LABELS, top, width(v), BAR]], Ink::Before, tip.clone());
        }
        if let Some(v) = row.after {
            let top = if both { top + BAR + 1.0 } else { top };
            scene.rects(vec![[LABELS, top, width(v), BAR]], Ink::After, tip);
        }
        let x = LABELS + width(row.before.unwrap_or(0.0).max(row.after.unwrap_or(0.0))) + 8.0;
        scene.text((x, middle), &label, 10, Anchor::Start, Ink::Muted);
    }
}

/// One panel of bars from the left to the right; the axis to its left.
struct Panel {
    top: f64,
    most: f64,
    slot: f64,
}

impl Panel {
    fn new(scene: &mut Scene, top: f64, most: f64, count: usize) -> Panel {
        let step = nice_step(most, 3.0);
        let panel = Panel { top, most, slot: (WIDTH - LEFT - 20.0) / count.max(1) as f64 };
        let mut value = 0.0;
        while value <= most && most > 0.0 {
            let y = panel.y(value);
            scene.line(vec![(LEFT, y), (WIDTH - 20.0, y)], Ink::Grid, false);
            scene.text((LEFT - 8.0, y + 4.0), &short(value), 10, Anchor::End, Ink::Muted);
            value += step;
        }
        panel
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.most > 0.0 { value / self.most } else { 0.0 };
        self.top + PANEL * (1.0 - share.clamp(0.0, 1.0))
    }

    fn bars(&self, values: &[f32], which: impl Fn(usize) -> bool) -> Vec<[f64; 4]> {
        let width = if self.slot > 3.0 { self.slot - 1.0 } else { self.slot * 0.9 };
        let bar = |(i, v): (usize, &f32)| {
            let y = self.y(f64::from(*v));
            [LEFT + i as f64 * self.slot, y, width, self.top + PANEL - y]
        };
        values.iter().enumerate().filter(|(i, _)| which(*i)).map(bar).collect()
    }

    fn axis(&self, scene: &mut Scene, text: &str, count: usize) {
        let y = self.top + PANEL + 15.0;
        scene.text((LEFT, y), "0", 10, Anchor::Start, Ink::Muted);
        let last = count.saturating_sub(1).to_string();
        scene.text((WIDTH - 20.0, y), &last, 10, Anchor::End, Ink::Muted);
        scene.text(((LEFT + WIDTH - 20.0) / 2.0, y), text, 10, Anchor::Middle, Ink::Muted);
    }
}

fn channels(scene: &mut Scene, before: &[f32], kept: &[bool], after: &[f32], norm: &str) {
    let most = |values: &[f32]| values.iter().copied().fold(0f32, f32::max);
    let top = f64::from(most(before).max(most(after)));
    let is_kept = |i: usize| kept.get(i).copied().unwrap_or(true);
    let stays = kept.iter().filter(|k| **k).count();
    let (stay, go) = (format!("kept {stays}"), format!("removed {}", kept.len() - stays));
    match kept.is_empty() {
        true => legend(scene, &[(Ink::After, "which channels stayed is not known")], 14.0, LEFT),
        false => legend(scene, &[(Ink::After, &stay), (Ink::Mark, &go)], 14.0, LEFT),
    }
    let panel = Panel::new(scene, 30.0, top, before.len());
    let tip = if kept.is_empty() { "" } else { "kept" };
    scene.rects(panel.bars(before, is_kept), Ink::After, tip);
    scene.rects(panel.bars(before, |i| !is_kept(i)), Ink::Mark, "removed");
    panel.axis(scene, &format!("before: {norm} norm of each channel"), before.len());
    scene.height = 30.0 + PANEL + 24.0;
    if !after.is_empty() {
        let second = Panel::new(scene, scene.height + 8.0, top, before.len());
        scene.rects(second.bars(after, |_| true), Ink::After, "");
        let text = format!("after: {} channels, without the inputs that went", after.len());
        second.axis(scene, &text, before.len());
        scene.height = second.top + PANEL + 24.0;
    }
}

fn curve(scene: &mut Scene, x: &str, y: &str, points: &[(f64, f64, String)]) {
    let most = points.iter().map(|p| p.1).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let (top, tall, right) = (30.0, 2.0 * PANEL, WIDTH - 20.0);
    let step = nice_step(most, 4.0);
    let end = (most / step).ceil().max(1.0) * step;
    let at = |px: f64, py: f64| {
        let share = (py / end).clamp(0.0, 1.0);
        (LEFT + px.clamp(0.0, 1.0) * (right - LEFT), top + tall * (1.0 - share))
    };
    for i in 0..=(end / step).round() as usize {
        let value = i as f64 * step;
        let height = at(0.0, value).1;
        scene.line(vec![(LEFT, height), (right, height)], Ink::Grid, false);
        scene.text((LEFT - 8.0, height + 4.0), &short(value), 10, Anchor::End, Ink::Muted);
    }
    for i in 0..=4 {
        let (place, _) = at(f64::from(i) / 4.0, 0.0);
        let label = format!("{} %", 25 * i);
        scene.text((place, top + tall + 15.0), &label, 10, Anchor::Middle, Ink::Muted);
    }
    scene.line(points.iter().map(|p| at(p.0, p.1)).collect(), Ink::After, false);
    for (px, py, tip) in points {
        let (left, height) = at(*px, *py);
        scene.rects(vec![[left - 3.0, height - 3.0, 6.0, 6.0]], Ink::Mark, tip.clone());
    }
    scene.text((LEFT, 14.0), y, 12, Anchor::Start, Ink::Muted);
    scene.text((WIDTH / 2.0, top + tall + 32.0), x, 10, Anchor::Middle, Ink::Muted);
    scene.height = top + tall + 40.0;
}

fn histogram(scene: &mut Scene, bins: &[u64], amax: f64, clip: f64, line: &str) {
    // Counts span many powers of ten.
    let height = |n: &u64| ((*n as f64) + 1.0).log10() as f32;
    let heights: Vec<f32> = bins.iter().map(height).collect();
    let most = f64::from(heights.iter().copied().fold(0f32, f32::max)).ceil().max(1.0);
    let panel = Panel { top: 30.0, most, slot: (WIDTH - LEFT - 20.0) / bins.len().max(1) as f64 };
    for power in 0..=most as i32 {
        let y = panel.y(f64::from(power));
        scene.line(vec![(LEFT, y), (WIDTH - 20.0, y)], Ink::Grid, false);
        let label = count(10f64.powi(power));
        scene.text((LEFT - 8.0, y + 4.0), &label, 10, Anchor::End, Ink::Muted);
    }
    let share = if amax > 0.0 { clip / amax } else { 1.0 };
    let inside = |i: usize| i as f64 + 0.5 <= share * bins.len() as f64;
    scene.rects(panel.bars(&heights, inside), Ink::After, "represented");
    scene.rects(panel.bars(&heights, |i| !inside(i)), Ink::Mark, "clipped");
    let x = LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - 20.0);
    scene.line(vec![(x, 22.0), (x, 30.0 + PANEL)], Ink::Mark, true);
    scene.text((LEFT, 14.0), line, 12, Anchor::Start, Ink::Muted);
    let y = 30.0 + PANEL + 15.0;
    scene.text((LEFT, y), "0", 10, Anchor::Start, Ink::Muted);
    scene.text((WIDTH - 20.0, y), &short(amax), 10, Anchor::End, Ink::Muted);
    scene.text((WIDTH / 2.0, y), "magnitude; logarithmic counts", 10, Anchor::Middle, Ink::Muted);
    scene.height = 30.0 + PANEL + 24.0;
}

/// The 1, 2 or 5 times a power of ten that divides `most` into about `parts`.
fn nice_step(most: f64, parts: f64) -> f64 {
    let raw = most / parts;
    if !(raw > 0.0 && raw.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|s| s * power >= raw * 0.99);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scene::Shape;

    fn bars(scene: &Scene, wanted: Ink) -> usize {
        let of = |s: &Shape| match s {
            Shape::Rects { at, ink, .. } if *ink == wanted => at.len(),
            _ => 0,
        };
        scene.shapes.iter().map(of).sum()
    }

    fn chart(data: Data) -> Scene {
        Chart { id: "c".into(), title: "t".into(), data }.titled()
    }

    #[test]
    fn each_layer_has_its_bars() {
        let row = |before, after| Row { name: "a".into(), before, after };
        let rows = vec![row(Some(4.0), Some(1.0)), row(None, Some(2.0)), row(Some(f64::NAN), None)];
        let scene = chart(Data::Layers { unit: Unit::Bytes, rows });
        // One more for the legend.
        assert_eq!((bars(&scene, Ink::Before), bars(&scene, Ink::After)), (3, 3));
        assert!(scene.to_svg(true).contains("4 B → 1 B"));
        let none = chart(Data::Layers { unit: Unit::Decibels, rows: Vec::new() });
        assert!(none.height > 0.0);
    }

    #[test]
    fn removed_channels_are_marked() {
        let scene = chart(Data::Channels {
            before: vec![1.0, 0.5, 3.0],
            kept: vec![true, false, true],
            after: vec![0.9, 2.5],
            norm: "L1",
        });
        assert_eq!((bars(&scene, Ink::Mark), bars(&scene, Ink::After)), (2, 5));
    }

    #[test]
    fn what_lies_beyond_the_clip_is_marked() {
        let data = |amax, clip| Data::Histogram {
            bins: vec![1000, 100, 10, 1],
            amax,
            clip,
            clipped: 0.001,
            method: "percentile".into(),
        };
        let scene = chart(data(4.0, 3.0));
        assert_eq!((bars(&scene, Ink::After), bars(&scene, Ink::Mark)), (3, 1));
        assert!(chart(data(0.0, 0.0)).to_svg(false).len() > 100);
    }

    #[test]
    fn curves_mark_their_points() {
        let points = vec![(0.25, 80.0, "a".to_owned()), (0.5, f64::NAN, "b".to_owned())];
        let scene = chart(Data::Curve { x: "left", y: "agreement", points });
        assert_eq!(bars(&scene, Ink::Mark), 2);
        let empty = chart(Data::Curve { x: "left", y: "agreement", points: Vec::new() });
        assert!(empty.height > 0.0);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([7.0, 95.0, 0.0].map(|most| nice_step(most, 4.0)), [2.0, 50.0, 1.0]);
    }
}
