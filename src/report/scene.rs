//! Pictures as lists of shapes, written as SVG or PNG.

use std::fmt::Write as _;

use super::bitmap;

/// What a shape is drawn in. Its name is the class of the shape in SVG, so that a page can give it
/// other colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Behind everything.
    Paper,
    /// Titles and labels.
    Text,
    /// Notes and axes.
    Muted,
    /// Lines behind the data.
    Grid,
    /// The original.
    Before,
    /// The result; what is kept.
    After,
    /// What is removed; limits.
    Mark,
    /// What is new.
    Added,
    /// A node that does arithmetic on weights.
    Linear,
    /// A node that quantizes or dequantizes.
    Quant,
    /// Another node.
    Node,
}

/// Each ink with its name and its red, green and blue on white and on black paper.
const INKS: [(Ink, &str, [u8; 3], [u8; 3]); 11] = [
    (Ink::Paper, "paper", [255, 255, 255], [22, 24, 28]),
    (Ink::Text, "text", [28, 32, 38], [228, 231, 236]),
    (Ink::Muted, "muted", [98, 106, 118], [154, 162, 174]),
    (Ink::Grid, "grid", [222, 226, 232], [52, 57, 66]),
    (Ink::Before, "before", [150, 160, 176], [110, 120, 138]),
    (Ink::After, "after", [37, 99, 201], [96, 155, 250]),
    (Ink::Mark, "mark", [214, 92, 30], [245, 140, 80]),
    (Ink::Added, "added", [28, 138, 84], [80, 190, 130]),
    (Ink::Linear, "linear", [205, 221, 248], [38, 62, 108]),
    (Ink::Quant, "quant", [253, 228, 204], [96, 60, 32]),
    (Ink::Node, "node", [236, 239, 243], [44, 49, 58]),
];

impl Ink {
    fn row(self) -> &'static (Ink, &'static str, [u8; 3], [u8; 3]) {
        &INKS[self as usize]
    }

    /// Its class in SVG.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Red, green and blue on white paper.
    pub fn rgb(self) -> [u8; 3] {
        self.row().2
    }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// To the right of it.
    Start,
    /// Around it.
    Middle,
    /// To the left of it.
    End,
}

/// A shape. Coordinates are pixels from the upper left corner.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Rectangles: left, top, width, height.
    Rects {
        /// All of them.
        at: Vec<[f64; 4]>,
        /// Their ink.
        ink: Ink,
        /// What they say when pointed at; may be empty.
        tip: String,
    },
    /// A line through points, two pixels wide.
    Line {
        /// The points.
        points: Vec<(f64, f64)>,
        /// Its ink.
        ink: Ink,
        /// Broken into dashes.
        dashed: bool,
    },
    /// A text of one line on the base line through the point.
    Text {
        /// Where.
        at: (f64, f64),
        /// What.
        text: String,
        /// Its size in pixels: 10, 12 or 16.
        size: u8,
        /// How it stands.
        anchor: Anchor,
        /// Its ink.
        ink: Ink,
    },
}

impl Shape {
    /// Moves the shape to the right and down.
    pub fn shift(&mut self, dx: f64, dy: f64) {
        match self {
            Shape::Rects { at, .. } => at.iter_mut().for_each(|r| {
                r[0] += dx;
                r[1] += dy;
            }),
            Shape::Line { points, .. } => {
                points.iter_mut().for_each(|p| *p = (p.0 + dx, p.1 + dy));
            }
            Shape::Text { at, .. } => *at = (at.0 + dx, at.1 + dy),
        }
    }
}

/// Width of a character of size 1 in a monospaced font.
pub const CHARACTER: f64 = 0.6;

/// A picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What it shows, for those who do not see it.
    pub title: String,
    /// Shapes, the first at the back.
    pub shapes: Vec<Shape>,
}

/// Why a picture cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// The extension is neither `.svg` nor `.png`.
    #[error("{0}: pictures are written as .svg or .png")]
    Format(String),
    /// The picture has too many pixels for PNG.
    #[error("the picture is {0} x {1} pixels, too many for PNG; write .svg")]
    TooLarge(u64, u64),
    /// The PNG encoder failed.
    #[error(transparent)]
    Encode(#[from] image::ImageError),
}

impl Scene {
    /// Adds rectangles.
    pub fn rects(&mut self, at: Vec<[f64; 4]>, ink: Ink, tip: impl Into<String>) {
        self.shapes.push(Shape::Rects { at, ink, tip: tip.into() });
    }

    /// Adds a line.
    pub fn line(&mut self, points: Vec<(f64, f64)>, ink: Ink, dashed: bool) {
        self.shapes.push(Shape::Line { points, ink, dashed });
    }

    /// Adds a text.
    pub fn text(&mut self, at: (f64, f64), text: &str, size: u8, anchor: Anchor, ink: Ink) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, anchor, ink });
    }

    /// The picture in the format that the extension of `path` names.
    ///
    /// # Errors
    /// Another extension, or a picture that is too large.
    pub fn encode(&self, path: &std::path::Path) -> Result<Vec<u8>, DrawError> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("svg") => Ok(self.to_svg(true).into_bytes()),
            Some("png") => bitmap::png(self),
            _ => Err(DrawError::Format(path.display().to_string())),
        }
    }

    /// The picture as SVG; with colours of its own, or those of the page that it stands in.
    pub fn to_svg(&self, alone: bool) -> String {
        let (w, h) = (number(self.width), number(self.height));
        let title = escape(&self.title);
        let name = if alone { " xmlns=\"http://www.w3.org/2000/svg\"" } else { "" };
        let mut out = format!(
            "<svg{name} class=\"scene\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" aria-label=\"{title}\">"
        );
        if alone {
            let _ = write!(out, "<title>{title}</title><style>{}</style>", style());
            let _ = write!(out, "<rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>");
        }
        self.shapes.iter().for_each(|s| write_shape(&mut out, s));
        out + "</svg>\n"
    }
}

/// Colours of all inks as properties `--NAME`, and `--c` for their classes.
fn properties(dark: bool) -> String {
    INKS.iter().fold(String::new(), |mut css, (_, name, light, black)| {
        let [r, g, b] = if dark { black } else { light };
        let _ = write!(css, "--{name}:rgb({r},{g},{b});");
        css
    })
}

/// Style rules that give every ink its colour, on black paper where the reader wants that or
/// `data-theme` of the root says so.
pub fn colours() -> String {
    let (light, dark) = (properties(false), properties(true));
    let classes = INKS.iter().fold(String::new(), |mut css, (_, name, ..)| {
        let _ = write!(css, ".{name}{{--c:var(--{name})}}");
        css
    });
    format!(
        ":root{{{light}}}@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\
         :root[data-theme=dark]{{{dark}}}{classes}"
    )
}

/// The style of a picture that stands alone.
fn style() -> String {
    let shapes = "rect,path,text{fill:var(--c)}polyline{fill:none;stroke:var(--c);stroke-width:1.5}\
                  text{font-family:ui-monospace,monospace}";
    colours() + shapes
}

fn write_shape(out: &mut String, shape: &Shape) {
    let _ = match shape {
        Shape::Rects { at, ink, tip } => {
            let _ = write!(out, "<path class=\"{}\" d=\"", ink.name());
            for [x, y, w, h] in at {
                let [x, y, w, h] = [*x, *y, *w, *h].map(number);
                let _ = write!(out, "M{x} {y}h{w}v{h}h-{w}z");
            }
            match tip.as_str() {
                "" => write!(out, "\"/>"),
                tip => write!(out, "\"><title>{}</title></path>", escape(tip)),
            }
        }
        Shape::Line { points, ink, dashed } => {
            let points: Vec<String> =
                points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
            let dash = if *dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let points = points.join(" ");
            write!(out, "<polyline class=\"{}\" points=\"{points}\"{dash}/>", ink.name())
        }
        Shape::Text { at, text, size, anchor, ink } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let (x, y, class) = (number(at.0), number(at.1), ink.name());
            write!(
                out,
                "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}>{}</text>",
                escape(text)
            )
        }
    };
}

/// A coordinate with at most two decimals.
fn number(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text as it stands in HTML and XML, between tags or in quotes. Characters that XML cannot hold
/// become `U+FFFD`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The text, or its beginning and its end where it is longer than `max` characters.
pub fn shorten(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let head = max.saturating_sub(1) / 3;
    let tail = max.saturating_sub(1) - head;
    let start: String = text.chars().take(head).collect();
    start + "…" + &text.chars().skip(count - tail).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_stand_at_their_places() {
        for (i, row) in INKS.iter().enumerate() {
            assert_eq!(row.0 as usize, i);
        }
    }

    #[test]
    fn names_of_a_model_cannot_break_out() {
        let mut s = Scene { width: 10.0, height: 10.0, ..Scene::default() };
        s.text((1.0, 2.505), "</text><script>\u{1}\"'&", 12, Anchor::End, Ink::Text);
        s.rects(vec![[0.0, 1.0, 2.0, 3.0]], Ink::Mark, "<b>");
        let svg = s.to_svg(true);
        assert!(
            !svg.contains("<script") && !svg.contains("<b>") && !svg.contains('\u{1}'),
            "{svg}"
        );
        assert!(svg.contains("M0 1h2v3h-2z"), "{svg}");
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shorten("layer1.0.conv1.weight", 10), "lay…weight");
        assert_eq!(shorten("short", 10), "short");
    }
}
