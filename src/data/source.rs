//! Sources of samples.

use std::path::{Path, PathBuf};

use super::preprocess::Preprocess;
use super::{
    DataError, DataOptions, Synthetic, fit, idx, image, labels, manifest, npy, safetensors,
};
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
struct Column {
    spec: InputSpec,
    path: PathBuf,
    kind: Kind,
    prepare: Option<Preprocess>,
}

enum Kind {
    /// The first axis counts the samples.
    Array(Tensor),
    /// One value for all samples.
    Shared(Tensor),
    Images(Vec<PathBuf>),
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
        let mut reader = Reader { options, specs: &specs, columns: Vec::new(), labels: None };
        for entry in &options.data {
            reader.add(entry)?;
        }
        let Reader { columns, labels: mut found, .. } = reader;
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
        let batch = fit::batch_of(&used).min(samples.max(1));
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
    fn len(&self) -> Option<usize> {
        match &self.kind {
            Kind::Array(t) => t.dims().first().copied(),
            Kind::Shared(_) => None,
            Kind::Images(files) => Some(files.len()),
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
            (Kind::Images(files), Some(prepare)) => {
                files[range].iter().map(|f| image::read(f, prepare)).collect()
            }
            (Kind::Images(_), None) => unreachable!("invariant: images are prepared"),
            (Kind::Array(t), prepare) => range
                .map(|i| {
                    let row = row(t, i).ok_or_else(|| wrong(t))?;
                    match prepare {
                        Some(p) => p.bytes(&row).ok_or_else(|| wrong(&row)),
                        None => Ok(row),
                    }
                })
                .collect(),
        };
        fit::fit(&samples?, &self.spec, &self.path)
    }
}

/// Index `i` of the first axis; a slice, not a copy.
fn row(t: &Tensor, i: usize) -> Option<Tensor> {
    let dims = t.dims().get(1..)?.to_vec();
    let bytes = t.byte_len() / t.dims()[0];
    Tensor::new(t.dtype(), dims, t.raw()?.slice(i * bytes..(i + 1) * bytes)).ok()
}

/// Collects columns from the files that the options name.
struct Reader<'a> {
    options: &'a DataOptions,
    specs: &'a [InputSpec],
    columns: Vec<Column>,
    labels: Option<(Vec<i64>, PathBuf)>,
}

impl Reader<'_> {
    fn add(&mut self, entry: &str) -> Result<(), DataError> {
        let (name, path) = match entry.split_once('=') {
            // A file whose name has `=` in it.
            Some(_) if Path::new(entry).exists() => (None, PathBuf::from(entry)),
            Some((name, path)) => (Some(name), PathBuf::from(path)),
            None => (None, PathBuf::from(entry)),
        };
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if kind.eq_ignore_ascii_case("npz") {
            return self.add_npz(name, &path);
        }
        if kind.eq_ignore_ascii_case("safetensors") {
            return self.add_safetensors(name, &path);
        }
        let spec = self.spec(name, &path)?;
        let list = kind.eq_ignore_ascii_case("csv");
        if path.is_dir() || list {
            let (files, labels) = if list { manifest::read(&path)? } else { image::list(&path)? };
            self.labels = labels.map(|l| (l, path.clone())).or(self.labels.take());
            let prepare = Some(Preprocess::new(self.options, &spec)?);
            self.columns.push(Column { spec, path, kind: Kind::Images(files), prepare });
            return Ok(());
        }
        let array = if kind.eq_ignore_ascii_case("npy") {
            npy::read_npy(&path)?
        } else if idx::is_idx(&path) {
            idx::read(&path)?
        } else if let Err(source) = std::fs::metadata(&path) {
            return Err(DataError::Read { path, source });
        } else {
            return Err(DataError::UnknownKind { path });
        };
        self.push(spec, path, array)
    }

    fn push(&mut self, spec: InputSpec, path: PathBuf, array: Tensor) -> Result<(), DataError> {
        let floats = spec.dtype.is_none_or(DType::is_float);
        let pixels = array.dtype() == DType::U8 && floats && matches!(array.rank(), 3 | 4);
        let prepare = match pixels {
            true => Some(Preprocess::new(self.options, &spec)?),
            false => None,
        };
        let kind = match array.rank() {
            0 => Kind::Shared(array),
            _ => Kind::Array(array),
        };
        self.columns.push(Column { spec, path, kind, prepare });
        Ok(())
    }

    fn add_npz(&mut self, name: Option<&str>, path: &Path) -> Result<(), DataError> {
        let mut file = npy::Npz::open(path)?;
        let names = file.names.clone();
        self.add_arrays(name, path, &names, &mut |array| file.read(array))
    }

    fn add_safetensors(&mut self, name: Option<&str>, path: &Path) -> Result<(), DataError> {
        let arrays = safetensors::read(path)?;
        let names: Vec<String> = arrays.iter().map(|a| a.0.clone()).collect();
        self.add_arrays(name, path, &names, &mut |array| {
            let found = arrays.iter().find(|a| a.0 == array).map(|a| a.1.clone());
            found.ok_or_else(|| DataError::NoArray {
                path: path.to_owned(),
                name: array.to_owned(),
                have: names.join(", "),
            })
        })
    }

    /// A file of named arrays: all that are inputs, or for one input the array of its name or the
    /// only one. A lone array of a file for a lone input may have any name.
    fn add_arrays(
        &mut self,
        name: Option<&str>,
        path: &Path,
        names: &[String],
        read: &mut dyn FnMut(&str) -> Result<Tensor, DataError>,
    ) -> Result<(), DataError> {
        let keys: Vec<&str> = match &self.options.labels_key {
            Some(key) => vec![key.as_str()],
            None => labels::KEYS.to_vec(),
        };
        let is_input = |n: &str| self.specs.iter().any(|s| s.name == n);
        let label = keys.iter().find(|k| names.iter().any(|n| n == *k) && !is_input(k));
        let label = label.map(|k| (*k).to_owned());
        if let (Some(key), None) = (&self.options.labels_key, &label) {
            let have = names.join(", ");
            return Err(DataError::NoArray { path: path.to_owned(), name: key.clone(), have });
        }
        let arrays: Vec<String> =
            names.iter().filter(|n| Some(*n) != label.as_ref()).cloned().collect();
        let mut pairs: Vec<(InputSpec, String)> = Vec::new();
        match (name, &arrays[..]) {
            (Some(name), [only]) => pairs.push((self.spec(Some(name), path)?, only.clone())),
            (Some(name), _) => pairs.push((self.spec(Some(name), path)?, name.to_owned())),
            (None, [only]) if self.specs.len() == 1 => {
                pairs.push((self.specs[0].clone(), only.clone()));
            }
            (None, all) => {
                for array in all {
                    pairs.push((self.spec(Some(array), path)?, array.clone()));
                }
            }
        }
        for (spec, array) in pairs {
            let data = read(&array)?;
            self.push(spec, path.to_owned(), data)?;
        }
        if let Some(key) = label {
            let numbers = labels::integers(&read(&key)?, path)?;
            self.labels = Some((numbers, path.to_owned()));
        }
        Ok(())
    }

    fn spec(&self, name: Option<&str>, path: &Path) -> Result<InputSpec, DataError> {
        let inputs = || list_inputs(self.specs);
        if let Some(name) = name {
            let spec = self.specs.iter().find(|s| s.name == name).cloned();
            return spec.ok_or_else(|| DataError::UnknownInput {
                name: name.to_owned(),
                inputs: inputs(),
            });
        }
        let mut needed = self.specs.iter().filter(|s| !s.optional);
        match (needed.next(), needed.next()) {
            (Some(spec), None) => Ok(spec.clone()),
            _ => Err(DataError::WhichInput { path: path.to_owned(), inputs: inputs() }),
        }
    }
}
