//! A view as a picture that stands alone.

use super::{Kind, State, View};
use crate::report::scene::{Anchor, Ink, Scene, shorten};

const MARGIN: f64 = 16.0;

impl View {
    /// The whole graph as a picture.
    pub fn scene(&self, title: &str) -> Scene {
        let mut scene = Scene {
            width: self.size.0 + 2.0 * MARGIN,
            height: self.size.1 + 2.0 * MARGIN,
            title: title.to_owned(),
            shapes: Vec::new(),
        };
        for edge in &self.edges {
            let shift = |(x, y): &(f64, f64)| (x + MARGIN, y + MARGIN);
            scene.line(edge.points.iter().map(shift).collect(), Ink::Before, false);
        }
        for node in &self.nodes {
            let [x, y, w, h] = node.place;
            let (x, y) = (x + MARGIN, y + MARGIN);
            let rim = match node.state {
                None => Ink::Before,
                Some(State::Changed) => Ink::After,
                Some(State::Added) => Ink::Added,
                Some(State::Removed) => Ink::Mark,
            };
            let fill = match node.kind {
                Kind::Port => Ink::Paper,
                Kind::Linear => Ink::Linear,
                Kind::Quant => Ink::Quant,
                Kind::Other => Ink::Node,
            };
            scene.rects(vec![[x, y, w, h]], rim, "");
            scene.rects(vec![[x + 1.0, y + 1.0, w - 2.0, h - 2.0]], fill, &node.name);
            let middle = x + w / 2.0;
            let name = if node.kind == Kind::Port { &node.name } else { &node.op };
            let name = shorten(name, super::LONGEST_NOTE);
            scene.text((middle, y + 17.0), &name, 12, Anchor::Middle, Ink::Text);
            if !node.note.is_empty() {
                let note = shorten(&node.note, super::LONGEST_NOTE);
                scene.text((middle, y + 33.0), &note, 12, Anchor::Middle, Ink::Muted);
            }
        }
        scene
    }
}
