//! Pixels to inputs: scaling, cropping, normalizing, axes.

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};

use super::{Channels, Crop, DataError, DataOptions, Layout, Resize, Scale};
use crate::engine::InputSpec;
use crate::ir::{DType, Tensor};

/// Everything that happens to an image before the model sees it.
#[derive(Clone, Debug)]
pub(super) struct Preprocess {
    resize: Resize,
    crop: Crop,
    layout: Layout,
    channels: Channels,
    factor: f32,
    mean: [f32; 3],
    std: [f32; 3],
    dtype: DType,
}

impl Preprocess {
    /// What the options say; where they are silent, what the input of the model suggests.
    pub(super) fn new(options: &DataOptions, spec: &InputSpec) -> Result<Preprocess, DataError> {
        let dims: Vec<Option<usize>> =
            spec.shape.iter().flatten().map(crate::ir::Dim::size).collect();
        let (layout, axes) = match &dims[..] {
            [_, c, h, w] | [c, h, w] if options.layout != Some(Layout::Nhwc) => {
                let last_is_channels = matches!(w, Some(1 | 3)) && !matches!(c, Some(1 | 3));
                match options.layout.is_none() && last_is_channels {
                    true => (Layout::Nhwc, (*w, *c, *h)),
                    false => (Layout::Nchw, (*c, *h, *w)),
                }
            }
            [_, h, w, c] | [h, w, c] => (Layout::Nhwc, (*c, *h, *w)),
            _ => (options.layout.unwrap_or(Layout::Nchw), (None, None, None)),
        };
        let (c, h, w) = axes;
        let size = h.zip(w).and_then(|(h, w)| u32::try_from(h).ok().zip(u32::try_from(w).ok()));
        let crop = options.crop.unwrap_or(match (size, options.resize) {
            (_, Some(Resize::Exact(..))) | (None, _) => Crop::None,
            (Some((h, w)), _) => Crop::Center(h, w),
        });
        let resize = options.resize.unwrap_or(match crop {
            Crop::Center(h, w) if h == w => Resize::Shorter(h),
            Crop::Center(h, w) => Resize::Exact(h, w),
            Crop::None => Resize::None,
        });
        let gray = if c == Some(1) { Channels::Gray } else { Channels::Rgb };
        Ok(Preprocess {
            resize,
            crop,
            layout,
            channels: options.channels.unwrap_or(gray),
            factor: if options.scale == Scale::One { 1.0 / 255.0 } else { 1.0 },
            mean: per_channel("--mean", &options.mean, 0.0)?,
            std: per_channel("--std", &options.std, 1.0)?,
            dtype: spec.dtype.unwrap_or(DType::F32),
        })
    }

    /// An image as a tensor without batch axis.
    pub(super) fn image(&self, image: DynamicImage) -> Option<Tensor> {
        let image = self.crop(self.resize(image));
        let (w, h) = (image.width() as usize, image.height() as usize);
        if self.channels == Channels::Gray {
            return self.planes(h, w, 1, image.to_luma8().as_raw());
        }
        let mut rgb: RgbImage = image.to_rgb8();
        if self.channels == Channels::Bgr {
            rgb.pixels_mut().for_each(|p| p.0.reverse());
        }
        self.planes(h, w, 3, rgb.as_raw())
    }

    fn resize(&self, image: DynamicImage) -> DynamicImage {
        let (w, h) = (image.width().max(1), image.height().max(1));
        let (to_w, to_h) = match self.resize {
            Resize::None => return image,
            Resize::Exact(h, w) => (w, h),
            Resize::Shorter(n) => {
                let scaled = |a: u32, b: u32| {
                    let long = u64::from(a) * u64::from(n) / u64::from(b);
                    u32::try_from(long).unwrap_or(u32::MAX).clamp(1, 1 << 20)
                };
                if w < h { (n, scaled(h, w)) } else { (scaled(w, h), n) }
            }
        };
        match (to_w, to_h) == (w, h) {
            true => image,
            false => image.resize_exact(to_w, to_h, FilterType::Triangle),
        }
    }

    /// Cuts from the centre; what the image lacks is black.
    fn crop(&self, image: DynamicImage) -> DynamicImage {
        let Crop::Center(h, w) = self.crop else { return image };
        let (have_w, have_h) = (image.width(), image.height());
        if (have_w, have_h) == (w, h) {
            return image;
        }
        let (cut_w, cut_h) = (w.min(have_w), h.min(have_h));
        let cut = image.crop_imm((have_w - cut_w) / 2, (have_h - cut_h) / 2, cut_w, cut_h);
        if (cut_w, cut_h) == (w, h) {
            return cut;
        }
        let mut padded = DynamicImage::new(w, h, cut.color());
        imageops::replace(&mut padded, &cut, ((w - cut_w) / 2).into(), ((h - cut_h) / 2).into());
        padded
    }

    /// A sample of bytes, `[H, W]`, `[H, W, C]` or `[C, H, W]` with one or three channels.
    pub(super) fn bytes(&self, t: &Tensor) -> Option<Tensor> {
        let raw = t.raw()?;
        let side = |d: usize| u32::try_from(d).ok();
        match *t.dims() {
            [h, w] | [1, h, w] | [h, w, 1] => {
                let gray = image::GrayImage::from_raw(side(w)?, side(h)?, raw.to_vec())?;
                self.image(gray.into())
            }
            [h, w, 3] => {
                let rgb = RgbImage::from_raw(side(w)?, side(h)?, raw.to_vec())?;
                self.image(rgb.into())
            }
            [3, h, w] => {
                let area = h * w;
                let pixels = (0..area).flat_map(|i| [raw[i], raw[area + i], raw[2 * area + i]]);
                let rgb = RgbImage::from_raw(side(w)?, side(h)?, pixels.collect())?;
                self.image(rgb.into())
            }
            _ => None,
        }
    }

    /// Interleaved bytes to the type and order of axes that the model takes.
    fn planes(&self, h: usize, w: usize, c: usize, pixels: &[u8]) -> Option<Tensor> {
        let dims = match self.layout {
            Layout::Nchw => [c, h, w],
            Layout::Nhwc => [h, w, c],
        };
        let at = |i: usize| match self.layout {
            Layout::Nchw => (i / (h * w), i % (h * w) * c + i / (h * w)),
            Layout::Nhwc => (i % c, i),
        };
        if self.dtype == DType::U8 {
            let bytes: Vec<u8> = (0..pixels.len()).map(|i| pixels[at(i).1]).collect();
            return Some(Tensor::of(&dims, &bytes));
        }
        let number = |i: usize| {
            let (channel, from) = at(i);
            (f32::from(pixels[from]) * self.factor - self.mean[channel]) / self.std[channel]
        };
        let numbers: Vec<f32> = (0..pixels.len()).map(number).collect();
        Tensor::from_f32(self.dtype, &dims, &numbers)
    }
}

fn per_channel(option: &'static str, values: &[f32], default: f32) -> Result<[f32; 3], DataError> {
    let value = || values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    if values.iter().any(|v| !v.is_finite() || (option == "--std" && *v == 0.0)) {
        return Err(DataError::Option { option, value: value(), what: "not a usable number" });
    }
    match values {
        [] => Ok([default; 3]),
        [v] => Ok([*v; 3]),
        [a, b, c] => Ok([*a, *b, *c]),
        _ => Err(DataError::Option { option, value: value(), what: "give one number or three" }),
    }
}
