//! Sources of samples.

use std::path::{Path, PathBuf};

use super::preprocess::Preprocess;
use super::reader::Reader;
use super::{DataError, DataOptions, Synthetic, fit, image, labels, npy};
use crate::engine::{Feeds, InputSpec, list_inputs};
use crate::ir::{DType, Model, Tensor};

/// Samples, each a set of inputs of one run.
pub trait Source: Sync {
    /// Number of runs that the samples make.
    fn len(&self) -> usize;

    /// There are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs of run `i`.
    ///
    /// # Errors
    /// When a sample cannot be read or does not fit the model.
    fn get(&self, i: usize) -> Result<Feeds, DataError>;

    /// Labels of all samples; run `i` holds those from `i * batch()` on.
    fn labels(&self) -> Option<&[i64]> {
        None
    }

    /// Samples in one run: more than one only where the model's batch is fixed.
    fn batch(&self) -> usize {
        1
    }

    /// The samples are random numbers, not data.
    fn is_synthetic(&self) -> bool {
        false
    }
}

/// The first runs of a source.
pub struct Taken<'a>(pub &'a dyn Source, pub usize);

impl Source for Taken<'_> {
    fn len(&self) -> usize {
        self.0.len().min(self.1)
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        self.0.get(i)
    }

    fn labels(&self) -> Option<&[i64]> {
        self.0.labels()
    }

    fn batch(&self) -> usize {
        self.0.batch()
    }

    fn is_synthetic(&self) -> bool {
        self.0.is_synthetic()
    }
}

/// Opens what the options name, for the inputs of a model; `fallback` random samples when they
/// name nothing.
///
/// # Errors
/// When data are missing, unreadable or of the wrong shape: the first sample is tried.
pub fn open(
    options: &DataOptions,
    model: &Model,
    fallback: usize,
) -> Result<Box<dyn Source>, DataError> {
    if options.data.is_empty() || options.random.is_some() {
        let n = options.random.unwrap_or(options.samples.unwrap_or(fallback));
        return Ok(Box::new(Synthetic::new(model, n, options.seed, &options.bindings()?)?));
    }
    let files = Files::open(options, model)?;
    if files.len() > 0 {
        files.get(0)?;
    }
    Ok(Box::new(files))
}

/// The sizes that the first sample gives to the open dims of the inputs, by the name of the symbol,
/// or `input:axis` for a dim without one.
///
/// # Errors
/// When the sample cannot be read.
pub fn observed_sizes(source: &dyn Source, model: &Model) -> Result<Vec<(String, i64)>, DataError> {
    let mut sizes = Vec::new();
    if source.is_empty() {
        return Ok(sizes);
    }
    for (name, tensor) in source.get(0)? {
        let value = model.graph.find_value(&name).map(|v| model.graph.value(v));
        let Some(shape) = value.and_then(|v| v.shape()) else { continue };
        for (axis, (dim, &size)) in shape.iter().zip(tensor.dims()).enumerate() {
            let dim_name = match (dim.known(), dim.name()) {
                (Some(_), _) => continue,
                (None, Some(symbol)) => symbol.to_owned(),
                (None, None) => format!("{name}:{axis}"),
            };
            sizes.push((dim_name, size as i64));
        }
    }
    Ok(sizes)
}

/// Samples of one input.
pub(super) struct Column {
    pub spec: InputSpec,
    pub path: PathBuf,
    pub kind: Kind,
    pub prepare: Option<Preprocess>,
}

pub(super) enum Kind {
    /// The first axis counts the samples.
    Array(Tensor),
    /// The same, left in its file.
    Rows(npy::Rows),
    /// One value for all samples.
    Shared(Tensor),
    /// A file for each sample: an image, or an array without the axis of samples.
    Listed(Vec<PathBuf>),
}

struct Files {
    columns: Vec<Column>,
    labels: Option<Vec<i64>>,
    batch: usize,
    samples: usize,
}

impl Files {
    fn open(options: &DataOptions, model: &Model) -> Result<Files, DataError> {
        let specs = InputSpec::of_graph(&model.graph);
        let (columns, mut found) = Reader::read(options, &specs)?;
        let have = |s: &InputSpec| columns.iter().any(|c| c.spec.name == s.name);
        if let Some(missing) = specs.iter().find(|s| !s.optional && !have(s)) {
            let inputs = list_inputs(&specs);
            return Err(DataError::MissingInput { name: missing.name.clone(), inputs });
        }
        let mut counted = columns.iter().filter_map(|c| Some((c.len()?, c)));
        let (mut samples, first) = match counted.next() {
            Some((n, c)) => (n, c.path.clone()),
            None => (1, PathBuf::new()),
        };
        if let Some((m, c)) = counted.find(|(m, _)| *m != samples) {
            let second = c.path.clone();
            return Err(DataError::Lengths { first, n: samples, second, m });
        }
        if let Some(path) = &options.labels {
            found = Some((labels::read(path)?, path.clone()));
        }
        if let Some((l, path)) = &found
            && l.len() != samples
        {
            let path = path.clone();
            return Err(DataError::LabelCount { path, labels: l.len(), samples });
        }
        if samples == 0 {
            return Err(DataError::Empty { path: first });
        }
        samples = samples.min(options.samples.unwrap_or(usize::MAX));
        let used: Vec<InputSpec> = columns.iter().map(|c| c.spec.clone()).collect();
        // Stored samples may be whole batches already.
        let batch = match columns.iter().any(Column::is_batched) {
            true => 1,
            false => fit::batch_of(&used).min(samples.max(1)),
        };
        let labels = found.map(|(mut l, _)| {
            l.truncate(samples / batch * batch);
            l
        });
        Ok(Files { columns, labels, batch, samples })
    }
}

impl Source for Files {
    fn len(&self) -> usize {
        self.samples / self.batch
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        let from = i * self.batch;
        let feed = |c: &Column| Ok((c.spec.name.clone(), c.get(from..from + self.batch)?));
        self.columns.iter().map(feed).collect()
    }

    fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    fn batch(&self) -> usize {
        self.batch
    }
}

impl Column {
    /// Each sample has all axes of the input, that of the batch included.
    fn is_batched(&self) -> bool {
        let axes = match &self.kind {
            Kind::Array(t) => t.rank(),
            Kind::Rows(rows) => rows.dims().len(),
            Kind::Shared(_) | Kind::Listed(_) => return false,
        };
        self.prepare.is_none() && self.spec.shape.as_ref().is_some_and(|s| axes == s.len() + 1)
    }

    fn len(&self) -> Option<usize> {
        match &self.kind {
            Kind::Array(t) => t.dims().first().copied(),
            Kind::Rows(rows) => rows.dims().first().copied(),
            Kind::Shared(_) => None,
            Kind::Listed(files) => Some(files.len()),
        }
    }

    fn get(&self, range: std::ops::Range<usize>) -> Result<Tensor, DataError> {
        let wrong = |got: &Tensor| DataError::Shape {
            input: self.spec.name.clone(),
            want: self.spec.describe(),
            got: format!("{}{:?}", got.dtype(), got.dims()),
            path: self.path.clone(),
        };
        let samples: Result<Vec<Tensor>, DataError> = match (&self.kind, &self.prepare) {
            (Kind::Shared(t), _) => {
                return fit::fit(std::slice::from_ref(t), &self.spec, &self.path);
            }
            (Kind::Listed(files), Some(prepare)) => {
                files[range].iter().map(|f| listed(f, prepare, &wrong)).collect()
            }
            (Kind::Listed(_), None) => unreachable!("invariant: listed files are prepared"),
            (Kind::Array(t), _) => {
                range.map(|i| self.prepared(row(t, i).ok_or_else(|| wrong(t))?, &wrong)).collect()
            }
            (Kind::Rows(rows), _) => range
                .map(|i| {
                    let format =
                        |what| DataError::Format { path: self.path.clone(), kind: "numpy", what };
                    self.prepared(rows.row(i).map_err(format)?, &wrong)
                })
                .collect(),
        };
        fit::fit(&samples?, &self.spec, &self.path)
    }

    fn prepared(
        &self,
        row: Tensor,
        wrong: &dyn Fn(&Tensor) -> DataError,
    ) -> Result<Tensor, DataError> {
        match &self.prepare {
            Some(p) => p.bytes(&row).ok_or_else(|| wrong(&row)),
            None => Ok(row),
        }
    }
}

/// One sample of its own file.
fn listed(
    file: &Path,
    prepare: &Preprocess,
    wrong: &dyn Fn(&Tensor) -> DataError,
) -> Result<Tensor, DataError> {
    if !file.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) {
        return image::read(file, prepare);
    }
    let array = npy::read_npy(file)?;
    match is_pixels(&array) {
        true => prepare.bytes(&array).ok_or_else(|| wrong(&array)),
        false => Ok(array),
    }
}

/// Bytes of two or three axes are an image.
fn is_pixels(sample: &Tensor) -> bool {
    sample.dtype() == DType::U8 && matches!(sample.rank(), 2 | 3)
}

/// Index `i` of the first axis; a slice, not a copy.
fn row(t: &Tensor, i: usize) -> Option<Tensor> {
    let dims = t.dims().get(1..)?.to_vec();
    let bytes = t.byte_len() / t.dims()[0];
    Tensor::new(t.dtype(), dims, t.raw()?.slice(i * bytes..(i + 1) * bytes)).ok()
}
