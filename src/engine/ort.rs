//! ONNX Runtime, loaded at run time from the library that `ORT_DYLIB_PATH` names.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynTensor, DynValue, Tensor as OrtTensor, TensorElementType, ValueType};

use super::feeds::{InputSpec, match_feeds};
use super::{Engine, EngineError, Feeds, Session, all_cores};
use crate::ir::{DType, Model, Tensor, TensorData};
use crate::onnx;

const NAME: &str = "onnxruntime";

/// Models above this go through a file, and one session has all cores: copies of a smaller one run
/// side by side, a thread each.
const LARGE: usize = 512 << 20;

/// ONNX Runtime.
pub struct OrtEngine {
    environment: Environment,
}

impl OrtEngine {
    /// Loads the library that `ORT_DYLIB_PATH` names.
    ///
    /// # Errors
    /// When the variable is not set, or what it names is not there or is no such library.
    pub fn new() -> Result<OrtEngine, EngineError> {
        static LOADED: OnceLock<Result<Environment, String>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let path = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty());
            load(&PathBuf::from(path.ok_or(
                "ORT_DYLIB_PATH is not set: let it name the library of ONNX Runtime, such as \
                 onnxruntime/capi/libonnxruntime.so.1.22.0 of Python's onnxruntime",
            )?))
        });
        match loaded {
            Ok(environment) => Ok(OrtEngine { environment: environment.clone() }),
            Err(what) => Err(EngineError::Missing(what.clone())),
        }
    }
}

fn load(path: &Path) -> Result<Environment, String> {
    let at = format!("ORT_DYLIB_PATH names {}", path.display());
    let path = path.canonicalize().map_err(|e| format!("{at}: {e}"))?;
    if !path.is_file() {
        return Err(format!("{at}, which is not a file"));
    }
    let builder = ort::init_from(&path).map_err(|e| format!("{at}: {e}"))?;
    builder.with_name("lapidary").build().map_err(|e| format!("{at}: {e}"))
}

impl Engine for OrtEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, model: &Model, taps: &[String]) -> Result<Arc<dyn Session>, EngineError> {
        let specs = InputSpec::of_graph(&model.graph);
        let mut tapped = model.clone();
        let mut outputs = model.graph.outputs().to_vec();
        let mut place = |v| match outputs.iter().position(|o| *o == v) {
            Some(i) => i,
            None => {
                outputs.push(v);
                outputs.len() - 1
            }
        };
        let own: Vec<usize> = model.graph.outputs().iter().map(|v| place(*v)).collect();
        let taps = taps.iter().map(|name| {
            let v = model.graph.find_value(name).ok_or_else(|| EngineError::Input {
                name: name.clone(),
                what: "the model has no value of this name to observe".to_owned(),
            })?;
            Ok(place(v))
        });
        let taps = taps.collect::<Result<Vec<usize>, EngineError>>()?;
        let names = outputs.iter().map(|v| model.graph.value(*v).name().to_owned()).collect();
        tapped.graph.set_outputs(outputs);
        let file = ModelFile::new(&tapped)?;
        let count = if file.large() { 1 } else { all_cores() };
        let session = OrtPool {
            specs,
            names,
            own,
            taps,
            environment: self.environment.clone(),
            file,
            sessions: (0..count).map(|_| Mutex::new(None)).collect(),
        };
        let mut first = lock(&session.sessions[0]);
        *first = Some(session.make()?);
        drop(first);
        Ok(Arc::new(session))
    }
}

/// A model in the form that sessions are made from.
enum ModelFile {
    Memory(Bytes),
    Folder(tempfile::TempDir),
}

impl ModelFile {
    fn new(model: &Model) -> Result<ModelFile, EngineError> {
        let bytes: usize = model
            .graph
            .values()
            .filter_map(|v| model.graph.initializer(v))
            .map(Tensor::byte_len)
            .sum();
        if bytes <= LARGE {
            let (bytes, _) = onnx::to_bytes(model).map_err(failed)?;
            return Ok(ModelFile::Memory(bytes));
        }
        let folder = tempfile::tempdir().map_err(failed)?;
        let options = onnx::SaveOptions::default();
        onnx::save(model, &folder.path().join("model.onnx"), options).map_err(failed)?;
        Ok(ModelFile::Folder(folder))
    }

    fn large(&self) -> bool {
        matches!(self, ModelFile::Folder(_))
    }
}

struct OrtPool {
    specs: Vec<InputSpec>,
    /// Names of what the session computes: outputs, then taps that are none.
    names: Vec<String>,
    own: Vec<usize>,
    taps: Vec<usize>,
    environment: Environment,
    file: ModelFile,
    sessions: Vec<Mutex<Option<OrtSession>>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(e: impl std::fmt::Display) -> EngineError {
    EngineError::Run { engine: NAME, node: None, what: e.to_string() }
}

impl OrtPool {
    fn make(&self) -> Result<OrtSession, EngineError> {
        let unsupported = |e: ort::Error| EngineError::Unsupported {
            engine: NAME,
            node: None,
            what: e.to_string(),
            hint: None,
        };
        let threads = if self.sessions.len() == 1 { all_cores() } else { 1 };
        let builder = OrtSession::builder(&self.environment).map_err(unsupported)?;
        let builder = builder.with_intra_threads(threads).map_err(|e| unsupported(e.into()))?;
        let mut builder = builder
            .with_log_level(ort::logging::LogLevel::Error)
            .map_err(|e| unsupported(e.into()))?;
        let made = match &self.file {
            ModelFile::Memory(bytes) => builder.commit_from_memory(bytes),
            ModelFile::Folder(folder) => builder.commit_from_file(folder.path().join("model.onnx")),
        };
        made.map_err(unsupported)
    }

    /// A session that no other run uses.
    fn free(&self) -> MutexGuard<'_, Option<OrtSession>> {
        let free = self.sessions.iter().find_map(|s| s.try_lock().ok());
        free.unwrap_or_else(|| lock(&self.sessions[0]))
    }
}

impl Session for OrtPool {
    fn run(
        &self,
        feeds: &Feeds,
        observe: &mut dyn FnMut(usize, Tensor),
    ) -> Result<Vec<Tensor>, EngineError> {
        let fed = match_feeds(&self.specs, feeds)?;
        let mut inputs: Vec<(String, SessionInputValue)> = Vec::new();
        for (spec, t) in self.specs.iter().zip(fed) {
            if let Some(t) = t {
                inputs.push((spec.name.clone(), to_ort(t).map_err(failed)?.into()));
            }
        }
        let mut guard = self.free();
        let session = match &mut *guard {
            Some(session) => session,
            empty => empty.insert(self.make()?),
        };
        let results = session.run(inputs).map_err(failed)?;
        let get = |i: usize| {
            let name = &self.names[i];
            let value = results.get(name).ok_or_else(|| failed(format!("no output {name:?}")))?;
            from_ort(value).map_err(|e| failed(format!("output {name:?}: {e}")))
        };
        for (index, &i) in self.taps.iter().enumerate() {
            observe(index, get(i)?);
        }
        self.own.iter().map(|&i| get(i)).collect()
    }
}

fn element_type(dtype: DType) -> Option<TensorElementType> {
    Some(match dtype {
        DType::F32 => TensorElementType::Float32,
        DType::F64 => TensorElementType::Float64,
        DType::F16 => TensorElementType::Float16,
        DType::BF16 => TensorElementType::Bfloat16,
        DType::U8 => TensorElementType::Uint8,
        DType::U16 => TensorElementType::Uint16,
        DType::U32 => TensorElementType::Uint32,
        DType::U64 => TensorElementType::Uint64,
        DType::I8 => TensorElementType::Int8,
        DType::I16 => TensorElementType::Int16,
        DType::I32 => TensorElementType::Int32,
        DType::I64 => TensorElementType::Int64,
        DType::Bool => TensorElementType::Bool,
        DType::Str => TensorElementType::String,
        DType::C64 => TensorElementType::Complex64,
        DType::C128 => TensorElementType::Complex128,
        DType::F8E4M3FN => TensorElementType::Float8E4M3FN,
        DType::F8E4M3FNUZ => TensorElementType::Float8E4M3FNUZ,
        DType::F8E5M2 => TensorElementType::Float8E5M2,
        DType::F8E5M2FNUZ => TensorElementType::Float8E5M2FNUZ,
        DType::F8E8M0 => TensorElementType::Float8E8M0,
        DType::F4E2M1 => TensorElementType::Float4E2M1,
        DType::U4 => TensorElementType::Uint4,
        DType::I4 => TensorElementType::Int4,
        DType::U2 => TensorElementType::Uint2,
        DType::I2 => TensorElementType::Int2,
        DType::F6E2M3 | DType::F6E3M2 => return None,
    })
}

fn to_ort(t: &Tensor) -> Result<DynValue, String> {
    match t.data() {
        TensorData::Raw(raw) => {
            let kind = element_type(t.dtype())
                .ok_or_else(|| format!("ONNX Runtime does not know {} tensors", t.dtype()))?;
            let allocator = Allocator::default();
            let mut made: DynTensor =
                DynTensor::new(&allocator, kind, t.dims().to_vec()).map_err(|e| e.to_string())?;
            let data = made.data_ptr_mut().cast::<u8>();
            if !raw.is_empty() {
                let fits = kind.byte_size(t.len()) == Some(raw.len()) && !data.is_null();
                if !fits {
                    return Err(format!("{} elements in {} bytes", t.len(), raw.len()));
                }
                // SAFETY: the tensor lies in main memory and takes exactly as many bytes, as
                // checked; the bytes are a valid tensor of the type (bool of any byte included:
                // ONNX Runtime is no Rust).
                unsafe { std::ptr::copy_nonoverlapping(raw.as_ptr(), data, raw.len()) };
            }
            Ok(made.into_dyn())
        }
        TensorData::Strings(s) => {
            let text: Result<Vec<String>, _> =
                s.iter().map(|b| String::from_utf8(b.to_vec())).collect();
            let text = text.map_err(|_| "a string that is not UTF-8".to_owned())?;
            let made = OrtTensor::from_string_array((t.dims().to_vec(), &*text));
            Ok(made.map_err(|e| e.to_string())?.into_dyn())
        }
        TensorData::Sparse(_) => Err("sparse tensors cannot be fed".to_owned()),
    }
}

fn from_ort(value: &DynValue) -> Result<Tensor, String> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(format!("it is {}, not a tensor", value.dtype()));
    };
    let sizes: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = sizes.ok_or("it has a negative size")?;
    if *ty == TensorElementType::String {
        let (_, strings) = value.try_extract_strings().map_err(|e| e.to_string())?;
        let strings = strings.into_iter().map(Bytes::from).collect();
        return Tensor::strings(dims, strings).map_err(|e| e.to_string());
    }
    let dtype = DType::all().find(|d| element_type(*d) == Some(*ty));
    let dtype = dtype.ok_or_else(|| format!("elements of type {ty}"))?;
    let count = crate::ir::element_count(&dims);
    let len = count.and_then(|n| dtype.byte_len(n)).ok_or("it is too large")?;
    let tensor = value.view().downcast::<ort::value::DynTensorValueType>();
    let tensor = tensor.map_err(|e| e.to_string())?;
    let data = tensor.data_ptr().cast::<u8>();
    let bytes = match len {
        0 => Bytes::new(),
        _ if data.is_null() => return Err("it has no data".to_owned()),
        // SAFETY: results of the CPU provider lie in main memory; a tensor of this type and shape
        // takes `len` bytes.
        _ => Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(data, len) }),
    };
    Tensor::new(dtype, dims, bytes).map_err(|e| e.to_string())
}
