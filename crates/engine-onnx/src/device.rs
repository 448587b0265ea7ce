//! Devices: their names, the execution provider of each, and what this library lacks for one.
//!
//! The provider of a GPU is a shared object of its own, which must lie beside the library and needs
//! more libraries in turn. What is missing is said before a model is opened.

use std::fmt;
use std::path::Path;

use ort::ep::{CUDA, ExecutionProvider, ExecutionProviderDispatch, OpenVINO, TensorRT};
use salver_core::{Error, Result};

use crate::library::OLDEST;

/// Where a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// The library's own provider.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(i32),
    /// An NVIDIA GPU through TensorRT; what that cannot do runs on CUDA.
    TensorRt(i32),
    /// The CPU through OpenVINO; what that cannot do runs on the library's own provider.
    OpenVino,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(gpu) => write!(f, "cuda:{gpu}"),
            Self::TensorRt(gpu) => write!(f, "tensorrt:{gpu}"),
            Self::OpenVino => f.write_str("openvino"),
        }
    }
}

/// What has to be there for a device.
struct Needs {
    provider: &'static str,
    /// Whether the library was built with the provider.
    is_known: bool,
    /// Whether it was built with none at all.
    is_cpu_build: bool,
    file: &'static str,
    package: &'static str,
}

impl Device {
    /// Reads the name of a device.
    ///
    /// # Errors
    /// `Unsupported` for any other.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let gpu = |number: &str| number.parse::<i32>().ok().filter(|number| *number >= 0);
        let device = match name.split_once(':') {
            None if name == "cpu" => Some(Self::Cpu),
            None if name == "openvino" => Some(Self::OpenVino),
            Some(("cuda", number)) => gpu(number).map(Self::Cuda),
            Some(("tensorrt", number)) => gpu(number).map(Self::TensorRt),
            _ => None,
        };
        device.ok_or_else(|| {
            Error::unsupported(format!(
                "device '{name}': the engine 'onnx' knows 'cpu', 'cuda:N', 'tensorrt:N' and 'openvino'"
            ))
        })
    }

    /// Checks that `library` can run models there.
    ///
    /// # Errors
    /// `Unsupported`, naming what is missing and how to get it.
    pub(crate) fn check(self, library: &Path) -> Result<()> {
        match self.needs() {
            None => Ok(()),
            Some(needs) => needs.check(library).map_err(|error| error.context(format!("device '{self}'"))),
        }
    }

    fn needs(self) -> Option<Needs> {
        let (provider, is_known, file, package) = match self {
            Self::Cpu => return None,
            Self::Cuda(_) => ("CUDA", knows::<CUDA>(), "libonnxruntime_providers_cuda.so", "onnxruntime-gpu"),
            Self::TensorRt(_) => {
                ("TensorRT", knows::<TensorRT>(), "libonnxruntime_providers_tensorrt.so", "onnxruntime-gpu")
            }
            Self::OpenVino => {
                ("OpenVINO", knows::<OpenVINO>(), "libonnxruntime_providers_openvino.so", "onnxruntime-openvino")
            }
        };
        let is_cpu_build = !(knows::<CUDA>() || knows::<TensorRT>() || knows::<OpenVINO>());
        Some(Needs { provider, is_known, is_cpu_build, file, package })
    }

    /// Names what the provider's shared object loads in turn.
    pub(crate) fn libraries(self) -> &'static str {
        match self {
            Self::Cpu => "its libraries",
            Self::Cuda(_) => "the libraries of CUDA and cuDNN",
            Self::TensorRt(_) => "the libraries of CUDA, cuDNN and TensorRT",
            Self::OpenVino => "the libraries of OpenVINO",
        }
    }

    /// Returns the providers to ask in turn; a refusal of the first is an error. None for the
    /// library's own.
    pub(crate) fn providers(self, threads: usize) -> Vec<ExecutionProviderDispatch> {
        let cuda = |gpu| CUDA::default().with_device_id(gpu).build().error_on_failure();
        match self {
            Self::Cpu => Vec::new(),
            Self::Cuda(gpu) => vec![cuda(gpu)],
            Self::TensorRt(gpu) => {
                vec![TensorRT::default().with_device_id(gpu).build().error_on_failure(), cuda(gpu)]
            }
            Self::OpenVino => {
                let provider = OpenVINO::default().with_device_type("CPU").with_num_threads(threads);
                vec![provider.build().error_on_failure()]
            }
        }
    }
}

fn knows<P: ExecutionProvider>() -> bool {
    P::is_available().unwrap_or(false)
}

impl Needs {
    fn check(&self, library: &Path) -> Result<()> {
        let Self { provider, file, package, .. } = self;
        let is_beside = library.with_file_name(file).is_file();
        let shown = library.display();
        let build = if self.is_cpu_build { ", CPU build" } else { "" };
        let missing = match (self.is_known, is_beside) {
            (true, true) => return Ok(()),
            (true, false) => format!("needs {file}, which is not beside it"),
            (false, true) => format!("has no {provider} provider, so {file} beside it is of another build"),
            (false, false) => format!("has no {provider} provider: {file} is not beside it"),
        };
        Err(Error::unsupported(format!(
            "this ONNX Runtime ({shown}{build}) {missing}; install {package} {}.{} or newer and point --ort-lib at its \
             capi folder",
            OLDEST.0, OLDEST.1
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_read_back() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(12), Device::TensorRt(1), Device::OpenVino] {
            assert_eq!(Device::parse(&device.to_string()).unwrap(), device);
        }
        for name in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "tensorrt", "openvino:0", "cpu:0"] {
            let error = Device::parse(name).unwrap_err();
            assert!(error.message().starts_with(&format!("device '{name}': ")), "{error}");
        }
    }

    fn check(is_known: bool, library: &Path) -> String {
        let (provider, package) = ("CUDA", "onnxruntime-gpu");
        let file = "libonnxruntime_providers_cuda.so";
        let needs = Needs { provider, is_known, is_cpu_build: !is_known, file, package };
        needs.check(library).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_missing_beside_the_library_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so.1.31.1");
        let advice = "; install onnxruntime-gpu 1.31 or newer and point --ort-lib at its capi folder";
        let without = check(false, &library);
        let provider = "libonnxruntime_providers_cuda.so";
        assert!(without.contains(&format!("has no CUDA provider: {provider} is not beside it{advice}")), "{without}");
        assert!(without.contains(&format!("this ONNX Runtime ({}, CPU build)", library.display())), "{without}");
        assert!(check(true, &library).contains(&format!("needs {provider}, which is not beside it{advice}")));
        std::fs::write(folder.path().join(provider), "").unwrap();
        assert!(check(false, &library).contains(&format!("{provider} beside it is of another build{advice}")));
        assert_eq!(check(true, &library), "");
    }
}
