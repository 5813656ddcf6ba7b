//! Pictures of pruning groups: who makes channels, and who reads them.

use super::scene::{Anchor, Ink, Scene, shorten};
use crate::prune::Explanation;

const WIDTH: f64 = 900.0;
const SIDE: f64 = 330.0;
const ROW: f64 = 20.0;
const GAP: f64 = 26.0;
/// Layers drawn on one side of a group.
const MOST: usize = 24;

/// The groups one below the other: to the left the layers that make the channels, to the right those
/// that read them.
pub fn scene(groups: &[Explanation]) -> Scene {
    let title = "Layers that lose channels together".to_owned();
    let mut scene = Scene { width: WIDTH, title, ..Scene::default() };
    let mut top = 16.0;
    for group in groups {
        let rows = group.makers.len().max(group.readers.len()).clamp(1, MOST + 1);
        let height = rows as f64 * ROW;
        let middle = top + height / 2.0;
        side(&mut scene, &group.makers, top, middle, true);
        side(&mut scene, &group.readers, top, middle, false);
        let (left, right) = (SIDE + 40.0, WIDTH - SIDE - 40.0);
        let ink = if group.pinned.is_some() { Ink::Node } else { Ink::Linear };
        let tip = group.pinned.clone().unwrap_or_default();
        scene.rects(vec![[left, middle - 17.0, right - left, 34.0]], ink, tip);
        let center = (left + right) / 2.0;
        let count = format!("{} channels", group.channels);
        scene.text((center, middle - 2.0), &count, 12, Anchor::Middle, Ink::Text);
        let what = match &group.pinned {
            Some(_) => "left alone".to_owned(),
            None if group.choices == group.channels => String::new(),
            None => format!("{} choices", group.choices),
        };
        scene.text((center, middle + 11.0), &what, 10, Anchor::Middle, Ink::Muted);
        top += height + GAP;
        if let Some(why) = &group.pinned {
            let why = shorten(why, 120);
            scene.text((center, top - GAP + 12.0), &why, 10, Anchor::Middle, Ink::Muted);
        }
    }
    scene.height = top;
    scene
}

/// The layers on one side of a group, each tied to its middle.
fn side(scene: &mut Scene, layers: &[String], top: f64, middle: f64, left: bool) {
    for (i, layer) in layers.iter().take(MOST).enumerate() {
        let y = top + ROW * (i as f64 + 0.5);
        let (name, x, anchor) = match left {
            true => (shorten(layer, 46), SIDE, Anchor::End),
            false => (shorten(layer, 46), WIDTH - SIDE, Anchor::Start),
        };
        scene.text((x, y + 4.0), &name, 10, anchor, Ink::Text);
        let (from, to) = if left { (x + 4.0, SIDE + 40.0) } else { (x - 4.0, WIDTH - SIDE - 40.0) };
        scene.line(vec![(from, y), (to, middle)], Ink::Before, false);
    }
    if layers.len() > MOST {
        let text = format!("and {} more", layers.len() - MOST);
        let (x, anchor) = if left { (SIDE, Anchor::End) } else { (WIDTH - SIDE, Anchor::Start) };
        let y = top + ROW * (MOST as f64 + 0.7);
        scene.text((x, y), &text, 10, anchor, Ink::Muted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_named() {
        let group = Explanation {
            name: "c1".into(),
            channels: 8,
            choices: 8,
            blocks: 1,
            makers: vec!["c1 (Conv): w1 axis 0".into(); 30],
            readers: vec!["c2 (Conv): w2 axis 1".into()],
            axes: Vec::new(),
            pinned: Some("it is a graph output".into()),
            approximate: None,
        };
        let svg = scene(&[group]).to_svg(true);
        for text in ["c1 (Conv)", "c2 (Conv)", "8 channels", "and 6 more", "graph output"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
