//! From the files that options name to columns of samples.

use std::path::{Path, PathBuf};

use super::manifest::Table;
use super::npy::Array;
use super::preprocess::Preprocess;
use super::source::{Column, Kind};
use super::{DataError, DataOptions, idx, image, labels, npy, safetensors};
use crate::engine::{InputSpec, list_inputs};
use crate::ir::DType;

/// Labels and the file that they are from.
type Labels = (Vec<i64>, PathBuf);

/// Collects columns from the files that the options name.
pub(super) struct Reader<'a> {
    options: &'a DataOptions,
    specs: &'a [InputSpec],
    columns: Vec<Column>,
    labels: Option<Labels>,
}

impl Reader<'_> {
    /// All columns, and labels if a file holds some.
    pub(super) fn read(
        options: &DataOptions,
        specs: &[InputSpec],
    ) -> Result<(Vec<Column>, Option<Labels>), DataError> {
        let mut reader = Reader { options, specs, columns: Vec::new(), labels: None };
        for entry in &options.data {
            reader.add(entry)?;
        }
        Ok((reader.columns, reader.labels))
    }

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
        if kind.eq_ignore_ascii_case("csv") {
            return self.add_table(name, &path, Table::csv(&path)?);
        }
        if kind.eq_ignore_ascii_case("parquet") {
            return self.add_table(name, &path, Table::parquet(&path)?);
        }
        let spec = self.spec(name, &path)?;
        if path.is_dir() {
            let (files, labels) = image::list(&path)?;
            self.labels = labels.map(|l| (l, path.clone())).or(self.labels.take());
            return self.add_files(spec, &path, files);
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
        self.push(spec, path, Array::Whole(array))
    }

    /// A list of files for one input, or for those that its columns are named after.
    fn add_table(
        &mut self,
        name: Option<&str>,
        path: &Path,
        table: Table,
    ) -> Result<(), DataError> {
        let inputs: Vec<&str> = match name {
            Some(_) => Vec::new(),
            None => self.specs.iter().map(|s| s.name.as_str()).collect(),
        };
        let key = self.options.labels_key.as_deref();
        let keys = key.map_or(labels::KEYS.to_vec(), |key| vec![key]);
        let listed = table.listed(&inputs, &keys)?;
        self.labels = listed.labels.map(|l| (l, path.to_owned())).or(self.labels.take());
        for (input, files) in listed.inputs {
            let spec = self.spec(name.or(input.as_deref()), path)?;
            self.add_files(spec, path, files)?;
        }
        Ok(())
    }

    fn add_files(
        &mut self,
        spec: InputSpec,
        path: &Path,
        files: Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let prepare = Some(Preprocess::new(self.options, &spec)?);
        let kind = Kind::Listed(files);
        self.columns.push(Column { spec, path: path.to_owned(), kind, prepare });
        Ok(())
    }

    fn push(&mut self, spec: InputSpec, path: PathBuf, array: Array) -> Result<(), DataError> {
        let floats = spec.dtype.is_none_or(DType::is_float);
        let (dtype, rank) = match &array {
            Array::Whole(t) => (t.dtype(), t.rank()),
            Array::Rows(rows) => (rows.dtype(), rows.dims().len()),
        };
        let pixels = dtype == DType::U8 && floats && matches!(rank, 3 | 4);
        let prepare = match pixels {
            true => Some(Preprocess::new(self.options, &spec)?),
            false => None,
        };
        let kind = match array {
            Array::Whole(t) if rank == 0 => Kind::Shared(t),
            Array::Whole(t) => Kind::Array(t),
            Array::Rows(rows) => Kind::Rows(rows),
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
            let found = arrays.iter().find(|a| a.0 == array).map(|a| Array::Whole(a.1.clone()));
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
        read: &mut dyn FnMut(&str) -> Result<Array, DataError>,
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
            let format = |what| DataError::Format { path: path.to_owned(), kind: "numpy", what };
            let array = match read(&key)? {
                Array::Whole(t) => t,
                Array::Rows(rows) => rows.whole().map_err(format)?,
            };
            let numbers = labels::integers(&array, path)?;
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
