//! Pictures as PNG: rectangles, lines and a monospaced font that needs no files.

use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, codecs::png::PngEncoder};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use super::scene::{Anchor, DrawError, Ink, Scene, Shape};

/// Pixels of the file for each pixel of the picture.
const SCALE: f64 = 2.0;

/// Most pixels of a file.
const MOST: u64 = 64 << 20;

/// Encodes a picture at twice its size, on white paper.
pub(super) fn png(scene: &Scene) -> Result<Vec<u8>, DrawError> {
    let size = |x: f64| (x * SCALE).ceil().clamp(1.0, 1e9) as u64;
    let (w, h) = (size(scene.width), size(scene.height));
    if w * h > MOST {
        return Err(DrawError::TooLarge(w, h));
    }
    let mut image = RgbImage::from_pixel(w as u32, h as u32, Rgb(Ink::Paper.rgb()));
    for shape in &scene.shapes {
        match shape {
            Shape::Rects { at, ink, .. } => at.iter().for_each(|r| rect(&mut image, *r, *ink)),
            Shape::Line { points, ink, dashed } => line(&mut image, points, *ink, *dashed),
            Shape::Text { at, text: t, size, anchor, ink } => {
                text(&mut image, *at, t, *size, *anchor, *ink);
            }
        }
    }
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(
        image.as_raw(),
        w as u32,
        h as u32,
        ExtendedColorType::Rgb8,
    )?;
    Ok(out)
}

/// Lays ink over a pixel, `cover` of it; nothing happens outside of the image.
fn blend(image: &mut RgbImage, x: i64, y: i64, ink: Ink, cover: f64) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
    let Some(pixel) = image.get_pixel_mut_checked(x, y) else { return };
    for (c, target) in pixel.0.iter_mut().zip(ink.rgb()) {
        *c = (f64::from(*c) + (f64::from(target) - f64::from(*c)) * cover).round() as u8;
    }
}

/// Pixels at the rim are covered in part.
fn rect(image: &mut RgbImage, [x, y, w, h]: [f64; 4], ink: Ink) {
    let (x0, y0, x1, y1) = (x * SCALE, y * SCALE, (x + w) * SCALE, (y + h) * SCALE);
    let cover = |at: i64, from: f64, to: f64| {
        (to.min(at as f64 + 1.0) - from.max(at as f64)).clamp(0.0, 1.0)
    };
    let (w, h) = (f64::from(image.width()), f64::from(image.height()));
    for py in y0.max(0.0).floor() as i64..y1.min(h).ceil() as i64 {
        for px in x0.max(0.0).floor() as i64..x1.min(w).ceil() as i64 {
            blend(image, px, py, ink, cover(px, x0, x1) * cover(py, y0, y1));
        }
    }
}

/// A line as a row of small squares.
fn line(image: &mut RgbImage, points: &[(f64, f64)], ink: Ink, dashed: bool) {
    const HALF: f64 = 0.6;
    const STEP: f64 = 0.5;
    let mut travelled = 0.0;
    for pair in points.windows(2) {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        if ax == bx || ay == by {
            let (x, y, w, h) = (ax.min(bx), ay.min(by), (ax - bx).abs(), (ay - by).abs());
            if !dashed {
                rect(image, [x - HALF, y - HALF, w + 2.0 * HALF, h + 2.0 * HALF], ink);
                continue;
            }
        }
        let length = (bx - ax).hypot(by - ay);
        let steps = (length / STEP).ceil().clamp(1.0, 1e5) as usize;
        for i in 0..=steps {
            let t = i as f64 / steps as f64;
            let on = !dashed || (travelled + t * length) % 9.0 < 5.0;
            if on {
                let (x, y) = (ax + (bx - ax) * t, ay + (by - ay) * t);
                let (px, py) = ((x * SCALE).floor() as i64, (y * SCALE).floor() as i64);
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    blend(image, px + dx, py + dy, ink, 0.5);
                }
            }
        }
        travelled += length;
    }
}

fn text(image: &mut RgbImage, at: (f64, f64), text: &str, size: u8, anchor: Anchor, ink: Ink) {
    // A letter takes three quarters of its raster.
    let height = if size < 12 { RasterHeight::Size24 } else { RasterHeight::Size32 };
    let width = noto_sans_mono_bitmap::get_raster_width(FontWeight::Regular, height) as f64;
    let length = width * text.chars().count() as f64;
    let start = at.0 * SCALE
        - match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => length / 2.0,
            Anchor::End => length,
        };
    // The base line lies four fifths down the raster.
    let top = (at.1 * SCALE - 0.8 * height.val() as f64).round() as i64;
    for (i, c) in text.chars().enumerate() {
        let Some(glyph) = glyph(c, height) else { continue };
        let left = (start + width * i as f64).round() as i64;
        for (dy, row) in (0i64..).zip(glyph.rows()) {
            for (dx, cover) in (0i64..).zip(row.iter()) {
                if *cover > 0 {
                    blend(image, left + dx, top + dy, ink, f64::from(*cover) / 255.0);
                }
            }
        }
    }
}

/// The character, or one that says the same where the font has none.
fn glyph(c: char, height: RasterHeight) -> Option<noto_sans_mono_bitmap::RasterizedChar> {
    let near = match c {
        '…' => '.',
        '–' | '−' => '-',
        '→' => '>',
        '²' => '2',
        other => other,
    };
    let get = |c| get_raster(c, FontWeight::Regular, height);
    get(c).or_else(|| get(near)).or_else(|| get('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_land_where_they_should() {
        let mut s = Scene { width: 40.0, height: 20.0, ..Scene::default() };
        s.rects(vec![[2.0, 2.0, 4.0, 4.0], [-5.0, 90.0, 4.0, 4.0]], Ink::Mark, "");
        s.line(vec![(0.0, 10.0), (40.0, 10.0), (60.0, -10.0)], Ink::After, false);
        s.text((20.0, 8.0), "é…\u{10ffff}", 12, Anchor::Middle, Ink::Text);
        let png = png(&s).expect("draws");
        let image = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!(image.dimensions(), (80, 40));
        assert_eq!(image.get_pixel(7, 7).0, Ink::Mark.rgb());
        assert_eq!(image.get_pixel(40, 20).0, Ink::After.rgb());
        assert_eq!(image.get_pixel(0, 0).0, Ink::Paper.rgb());
    }

    #[test]
    fn huge_pictures_are_refused() {
        let s = Scene { width: 1e7, height: 1e7, ..Scene::default() };
        assert!(matches!(png(&s), Err(DrawError::TooLarge(..))));
    }
}
