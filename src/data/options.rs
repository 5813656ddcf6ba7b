//! Data on the command line and in recipes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::DataError;

/// Where samples come from, and how they become inputs of the model.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Samples: a .npy, .npz, .safetensors or idx file (also .gz), a folder of images, or a .csv or
    /// .parquet file that lists images or .npy files, a column for each input, perhaps with labels;
    /// NAME=PATH says for which input, once for each
    #[arg(long = "data", value_name = "[NAME=]PATH")]
    pub data: Vec<String>,
    /// Labels: a .npy or idx file
    #[arg(long, value_name = "PATH")]
    pub labels: Option<PathBuf>,
    /// Name of the labels in an .npz file [default: y, label or labels]
    #[arg(long, value_name = "NAME")]
    pub labels_key: Option<String>,
    /// Use only the first N samples
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Make N random samples instead of reading data
    #[arg(long, value_name = "N")]
    pub random: Option<usize>,
    /// Seed of random samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Size of a symbolic dimension in random samples and in costs; the model keeps it open, which
    /// --set-dim of `edit` and `simplify` does not; repeat for more
    #[arg(long = "dim", value_name = "NAME=SIZE")]
    pub dims: Vec<String>,
    /// Images: scale the shorter side to N, or to exactly HxW, or `none` [default: what the crop
    /// needs]
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<Resize>,
    /// Images: cut N×N or HxW from the centre, or `none` [default: the size that the model takes]
    #[arg(long, value_name = "SIZE")]
    pub crop: Option<Crop>,
    /// Images: range of pixel values before mean and std, 0-1 or 0-255
    #[arg(long, value_name = "RANGE", default_value = "0-1")]
    pub scale: Scale,
    /// Images: subtract this, one number or one per channel
    #[arg(long, value_name = "X,…", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f32>,
    /// Images: then divide by this
    #[arg(long, value_name = "X,…", value_delimiter = ',')]
    pub std: Vec<f32>,
    /// Images: order of the axes [default: as the model's shape suggests, else nchw]
    #[arg(long)]
    pub layout: Option<Layout>,
    /// Images: channels and their order [default: gray where the model takes one channel, else rgb]
    #[arg(long)]
    pub channels: Option<Channels>,
}

impl DataOptions {
    /// The sizes that `--dim` gives to symbols.
    ///
    /// # Errors
    /// When one is no `NAME=SIZE`.
    pub fn bindings(&self) -> Result<Vec<(String, i64)>, DataError> {
        let parse = |entry: &String| {
            let parsed = entry.split_once('=').and_then(|(n, v)| Some((n, v.parse().ok()?)));
            match parsed {
                Some((name, size @ 0..)) => Ok((name.to_owned(), size)),
                _ => {
                    let what = "give NAME=SIZE";
                    Err(DataError::Option { option: "--dim", value: entry.clone(), what })
                }
            }
        };
        self.dims.iter().map(parse).collect()
    }

    /// Takes relative paths as relative to `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for entry in &mut self.data {
            let (name, path) = match entry.split_once('=') {
                Some((name, path)) => (format!("{name}="), path),
                None => (String::new(), entry.as_str()),
            };
            *entry = format!("{name}{}", folder.join(path).display());
        }
        if let Some(labels) = &mut self.labels {
            *labels = folder.join(&labels);
        }
    }
}

/// Order of the axes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Layout {
    Nchw,
    Nhwc,
}

/// Channels of an image and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Channels {
    Rgb,
    Bgr,
    Gray,
}

/// Range of pixel values before mean and std.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Scale {
    /// Divided by 255.
    #[default]
    #[value(name = "0-1")]
    #[serde(rename = "0-1")]
    One,
    /// As stored.
    #[value(name = "0-255")]
    #[serde(rename = "0-255")]
    Byte,
}

/// How images are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resize {
    /// Not at all.
    None,
    /// The shorter side to this.
    Shorter(u32),
    /// To exactly this height and width.
    Exact(u32, u32),
}

/// What is cut from the centre of an image: height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Crop {
    /// Everything stays.
    None,
    /// This height and width.
    Center(u32, u32),
}

/// A size as text that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no size: give N, HxW or none, each at most 16384")]
pub struct SizeError(String);

enum Size {
    None,
    Square(u32),
    Sides(u32, u32),
}

fn size(s: &str) -> Result<Size, SizeError> {
    const LARGEST: u32 = 16384;
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| (1..=LARGEST).contains(n));
    let parsed = match s.split_once(['x', 'X']) {
        _ if s == "none" => Some(Size::None),
        Some((h, w)) => number(h).zip(number(w)).map(|(h, w)| Size::Sides(h, w)),
        None => number(s).map(Size::Square),
    };
    parsed.ok_or_else(|| SizeError(s.to_owned()))
}

impl FromStr for Resize {
    type Err = SizeError;

    fn from_str(s: &str) -> Result<Resize, SizeError> {
        Ok(match size(s)? {
            Size::None => Resize::None,
            Size::Square(n) => Resize::Shorter(n),
            Size::Sides(h, w) => Resize::Exact(h, w),
        })
    }
}

impl FromStr for Crop {
    type Err = SizeError;

    fn from_str(s: &str) -> Result<Crop, SizeError> {
        Ok(match size(s)? {
            Size::None => Crop::None,
            Size::Square(n) => Crop::Center(n, n),
            Size::Sides(h, w) => Crop::Center(h, w),
        })
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resize::None => f.write_str("none"),
            Resize::Shorter(n) => write!(f, "{n}"),
            Resize::Exact(h, w) => write!(f, "{h}x{w}"),
        }
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crop::None => f.write_str("none"),
            Crop::Center(h, w) => write!(f, "{h}x{w}"),
        }
    }
}

macro_rules! as_string {
    ($($t:ty),*) => {$(
        impl TryFrom<String> for $t {
            type Error = SizeError;
            fn try_from(s: String) -> Result<$t, SizeError> {
                s.parse()
            }
        }
        impl From<$t> for String {
            fn from(v: $t) -> String {
                v.to_string()
            }
        }
    )*};
}
as_string!(Resize, Crop);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_flags_agree() {
        let text = "data = [\"a.npz\"]\nresize = \"256\"\ncrop = \"224x200\"\nscale = \"0-255\"\n\
                    layout = \"nhwc\"\nmean = [0.5]\nlabels-key = \"y\"";
        let o: DataOptions = toml::from_str(text).expect("parses");
        assert_eq!(o.resize, Some(Resize::Shorter(256)));
        assert_eq!(o.crop, Some(Crop::Center(224, 200)));
        assert_eq!((o.scale, o.layout), (Scale::Byte, Some(Layout::Nhwc)));
        let again: DataOptions =
            toml::from_str(&toml::to_string(&o).expect("writes")).expect("parses");
        assert_eq!(o, again);
        assert!(toml::from_str::<DataOptions>("resize = \"big\"").is_err());
        assert!(toml::from_str::<DataOptions>("colour = 1").is_err());
    }
}
