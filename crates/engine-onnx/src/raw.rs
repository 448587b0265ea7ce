//! The crate's one home of `unsafe`: ONNX Runtime values over borrowed memory, and `Run` on a
//! shared session.
//!
//! The `ort` crate gives `run` only to who holds the session alone. ONNX Runtime itself allows
//! concurrent runs of one session, which for the CPU provider this crate relies on (and tests).
//! Everything that leaves this module is safe: values own or borrow what they point to, and what
//! an output points to is kept alive with its session.
#![expect(unsafe_code, reason = "the C API of ONNX Runtime; see the SAFETY note at each use")]

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;
use ort::AsPointer;
use ort::session::{RunOptions, SharedSessionInner};
use ort::sys::{ONNXTensorElementDataType as RawType, OrtAllocator, OrtMemoryInfo, OrtStatusPtr, OrtValue};
use salver_core::{DataType, Elements, Error, Result, Shape};
use smallvec::SmallVec;

use crate::{dtype, message};

/// One of each input or output; up to eight stay on the stack.
pub(crate) type PerTensor<T> = SmallVec<[T; 8]>;

fn check(status: OrtStatusPtr) -> Result<()> {
    // SAFETY: every status passed in was just returned by an ONNX Runtime call and is used once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| message::of_run(&error))
}

/// A tensor, map or sequence; `'a` is the memory that it borrows, `'static` where it owns it.
pub(crate) struct Value<'a> {
    ptr: NonNull<OrtValue>,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: a value is a plain object on the heap without ties to a thread; nothing here changes one
// through a shared reference.
unsafe impl Send for Value<'_> {}
// SAFETY: as above; the calls made through `&Value` only read.
unsafe impl Sync for Value<'_> {}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: the value is owned by `self`, and released once.
        unsafe { (ort::api().ReleaseValue)(self.ptr.as_ptr()) }
    }
}

impl<'a> Value<'a> {
    fn from_raw(ptr: *mut OrtValue) -> Result<Self> {
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::engine("ONNX Runtime returned no value"))?;
        Ok(Self { ptr, memory: PhantomData })
    }

    /// Makes a tensor of a fixed-size type over `data`, without copying it.
    ///
    /// # Errors
    /// `InvalidInput` if `data` is shorter than `shape` says or not aligned for `dtype`.
    pub(crate) fn over(memory: &CpuMemory, dtype: DataType, shape: &Shape, data: &'a [u8]) -> Result<Self> {
        let expected = shape.byte_len(dtype)?;
        if expected != Some(data.len()) || !is_aligned(data, dtype) {
            return Err(Error::invalid_input(format!("{dtype} {shape} does not lie in {} bytes", data.len())));
        }
        let dims = signed(shape)?;
        let mut value = ptr::null_mut();
        // SAFETY: `data` has the length and alignment checked above and outlives the value by `'a`;
        // inputs are only read, so the cast from a shared reference writes nothing. `dims` is read
        // during the call only.
        check(unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory.0.as_ptr(),
                data.as_ptr().cast_mut().cast::<c_void>(),
                data.len(),
                dims.as_ptr(),
                dims.len(),
                dtype::to_raw(dtype),
                &mut value,
            )
        })?;
        Self::from_raw(value)
    }

    /// Makes a string tensor by copying `elements`, NUL and invalid UTF-8 included.
    ///
    /// # Errors
    /// `InvalidInput` if there are fewer elements than `shape` says.
    pub(crate) fn of_strings(shape: &Shape, elements: &Elements) -> Result<Value<'static>> {
        if shape.element_count() != Some(elements.len()) {
            return Err(Error::invalid_input(format!("BYTES {shape} does not hold {} elements", elements.len())));
        }
        let dims = signed(shape)?;
        let mut value = ptr::null_mut();
        // SAFETY: `dims` is read during the call; the default allocator lives as long as the process.
        check(unsafe {
            (ort::api().CreateTensorAsOrtValue)(
                default_allocator()?,
                dims.as_ptr(),
                dims.len(),
                RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
                &mut value,
            )
        })?;
        let value = Value::from_raw(value)?;
        for (idx, element) in elements.iter().enumerate() {
            value.fill_string(idx, element)?;
        }
        Ok(value)
    }

    fn fill_string(&self, idx: usize, element: &[u8]) -> Result<()> {
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: the value is a string tensor that only its maker knows yet; the call checks `idx`.
        check(unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(self.ptr.as_ptr(), idx, element.len(), &mut buffer)
        })?;
        if !buffer.is_null() {
            // SAFETY: the buffer was just made `element.len()` bytes long, and is not `element`.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) }
        }
        Ok(())
    }

    /// Returns the element type and shape of a tensor.
    ///
    /// # Errors
    /// `Engine` for anything but a tensor of a known type.
    pub(crate) fn tensor_type(&self) -> Result<(DataType, Shape)> {
        let mut raw = RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let (mut dims, mut rank) = (ptr::null(), 0);
        // SAFETY: the value is alive; for anything but a tensor the call returns an error.
        check(unsafe {
            (ort::api().GetTensorElementTypeAndShapeDataReference)(self.ptr.as_ptr(), &mut raw, &mut dims, &mut rank)
        })?;
        let dims: &[i64] = if rank == 0 || dims.is_null() {
            &[]
        } else {
            // SAFETY: the call set `dims` to `rank` extents that live as long as the value.
            unsafe { std::slice::from_raw_parts(dims, rank) }
        };
        let shape: Option<Shape> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let dtype =
            dtype::from_raw(raw).ok_or_else(|| Error::engine("an output has an element type beyond Salver's"))?;
        Ok((dtype, shape.ok_or_else(|| Error::engine("an output has a negative extent"))?))
    }

    /// Returns the data of a tensor of a fixed-size type.
    fn data(&self) -> Result<&[u8]> {
        let (mut data, mut len) = (ptr::null_mut(), 0);
        // SAFETY: the value is alive; for anything but a tensor the calls return errors.
        check(unsafe { (ort::api().GetTensorSizeInBytes)(self.ptr.as_ptr(), &mut len) })?;
        // SAFETY: as above.
        check(unsafe { (ort::api().GetTensorMutableData)(self.ptr.as_ptr(), &mut data) })?;
        if len == 0 || data.is_null() {
            return Ok(&[]);
        }
        // SAFETY: ONNX Runtime holds `len` initialised bytes there for as long as the value lives,
        // and nothing writes to them once a run is over.
        Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
    }

    /// Copies the elements of a string tensor.
    pub(crate) fn strings(&self, n_elements: usize) -> Result<Elements> {
        let mut len = 0;
        // SAFETY: the value is alive; for anything but a string tensor the call returns an error.
        check(unsafe { (ort::api().GetStringTensorDataLength)(self.ptr.as_ptr(), &mut len) })?;
        let (mut buffer, mut offsets) = (vec![0u8; len], vec![0usize; n_elements]);
        if n_elements > 0 {
            // SAFETY: both arrays have the lengths that are passed; the call checks them.
            check(unsafe {
                let (content, content_len) = (buffer.as_mut_ptr().cast::<c_void>(), buffer.len());
                (ort::api().GetStringTensorContent)(
                    self.ptr.as_ptr(),
                    content,
                    content_len,
                    offsets.as_mut_ptr(),
                    offsets.len(),
                )
            })?;
        }
        let ends = offsets.iter().skip(1).copied().chain([len]);
        let spans: Option<Vec<(u32, u32)>> = offsets
            .iter()
            .zip(ends)
            .map(|(&start, end)| Some((start.try_into().ok()?, end.try_into().ok()?)))
            .collect();
        let spans = spans.ok_or_else(|| Error::engine("a BYTES output exceeds 4 GiB"))?;
        Elements::new(buffer.into(), spans)
    }

    /// Returns how many values a sequence or a map (keys and values) holds.
    pub(crate) fn count(&self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: the value is alive; for a tensor the call returns an error.
        check(unsafe { (ort::api().GetValueCount)(self.ptr.as_ptr(), &mut count) })?;
        Ok(count)
    }

    /// Returns item `idx` of a sequence; of a map the keys (0) or the values (1).
    pub(crate) fn item(&self, idx: usize) -> Result<Value<'static>> {
        let idx = i32::try_from(idx).map_err(|_| Error::engine("a sequence has more than 2^31 items"))?;
        let mut item = ptr::null_mut();
        // SAFETY: the call checks `idx` and copies the item with the default allocator.
        check(unsafe { (ort::api().GetValue)(self.ptr.as_ptr(), idx, default_allocator()?, &mut item) })?;
        Value::from_raw(item)
    }

    /// Copies the values of an FP32 tensor.
    ///
    /// # Errors
    /// `Engine` for any other value.
    pub(crate) fn floats(&self) -> Result<Vec<f32>> {
        match self.tensor_type()? {
            (DataType::Fp32, _) => {
                Ok(self.data()?.as_chunks::<4>().0.iter().map(|&value| f32::from_ne_bytes(value)).collect())
            }
            (other, _) => Err(Error::engine(format!("a map holds {other} values where FP32 was expected"))),
        }
    }
}

/// Data of a fixed-size output, together with what keeps it alive.
struct OutputData {
    data: NonNull<u8>,
    len: usize,
    // Dropped in this order: the value lies in memory of the session's arena.
    _value: Value<'static>,
    _session: Arc<SharedSessionInner>,
}

// SAFETY: the data is only read, and value and session may be used and released by any thread.
unsafe impl Send for OutputData {}

impl AsRef<[u8]> for OutputData {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` and `len` describe the value's own buffer, which `_value` keeps alive.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

/// A session. Any number of threads may run it at the same time if its provider is the CPU's, else
/// one.
#[derive(Clone)]
pub(crate) struct SharedSession(Arc<SharedSessionInner>);

/// What a run is asked for; pointers into names that the model keeps.
pub(crate) struct Named<'a, 'm> {
    /// The input's name.
    pub(crate) name: &'a CString,
    /// Its value.
    pub(crate) value: Value<'m>,
}

impl SharedSession {
    /// Takes a share in a session.
    pub(crate) fn new(session: &ort::session::Session) -> Self {
        Self(session.inner())
    }

    /// Runs the graph and returns the outputs called `outputs`, in that order.
    ///
    /// # Errors
    /// `InvalidInput` where ONNX Runtime calls an argument invalid, else `Engine`.
    pub(crate) fn run(
        &self,
        inputs: &[Named<'_, '_>],
        outputs: &[CString],
        options: &RunOptions,
    ) -> Result<PerTensor<Value<'static>>> {
        let input_names: PerTensor<*const c_char> = inputs.iter().map(|input| input.name.as_ptr()).collect();
        let input_values: PerTensor<*const OrtValue> =
            inputs.iter().map(|input| input.value.ptr.as_ptr().cast_const()).collect();
        let output_names: PerTensor<*const c_char> = outputs.iter().map(|name| name.as_ptr()).collect();
        let mut results: PerTensor<*mut OrtValue> = outputs.iter().map(|_| ptr::null_mut()).collect();
        // SAFETY: the four arrays have the lengths that are passed and outlive the call, names end
        // in NUL, values are alive, and null asks for outputs to be allocated. ONNX Runtime's `Run`
        // may be called on one session by several threads at once (onnxruntime issue 114); `model.rs`
        // lets only sessions of the CPU provider be run so, as `tests/it` does. The options are only
        // read, except for the flag by which another thread ends the run, which is made for that.
        let status = unsafe {
            (ort::api().Run)(
                self.0.ptr().cast_mut(),
                options.ptr(),
                input_names.as_ptr(),
                input_values.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                outputs.len(),
                results.as_mut_ptr(),
            )
        };
        // Owned before the status is looked at, so that nothing leaks on an error.
        let values: PerTensor<Result<Value<'static>>> = results.into_iter().map(Value::from_raw).collect();
        check(status)?;
        values.into_iter().collect()
    }

    /// Gives out the data of a fixed-size output: without a copy, unless it lies in `borrowed`.
    pub(crate) fn output_bytes(&self, value: Value<'static>, borrowed: &[&[u8]]) -> Result<Bytes> {
        let data = value.data()?;
        if data.is_empty() {
            return Ok(Bytes::new());
        }
        // ONNX Runtime copies an input that passes straight through; should that ever change, the
        // caller's buffer must still not leave with the answer.
        if borrowed.iter().any(|input| input.as_ptr_range().contains(&data.as_ptr())) {
            return Ok(Bytes::copy_from_slice(data));
        }
        let (len, data) = (data.len(), NonNull::from(data).cast::<u8>());
        Ok(Bytes::from_owner(OutputData { data, len, _value: value, _session: self.0.clone() }))
    }
}

/// Describes ordinary memory to ONNX Runtime.
pub(crate) struct CpuMemory(NonNull<OrtMemoryInfo>);

// SAFETY: the description never changes after it was made.
unsafe impl Send for CpuMemory {}
// SAFETY: as above.
unsafe impl Sync for CpuMemory {}

impl CpuMemory {
    pub(crate) fn new() -> Result<Self> {
        let mut info = ptr::null_mut();
        // SAFETY: `info` is written by the call and owned by the result.
        check(unsafe {
            (ort::api().CreateCpuMemoryInfo)(
                ort::sys::OrtAllocatorType::OrtDeviceAllocator,
                ort::sys::OrtMemType::OrtMemTypeDefault,
                &mut info,
            )
        })?;
        NonNull::new(info).map(Self).ok_or_else(|| Error::engine("ONNX Runtime returned no memory info"))
    }
}

impl Drop for CpuMemory {
    fn drop(&mut self) {
        // SAFETY: owned by `self`, and released once.
        unsafe { (ort::api().ReleaseMemoryInfo)(self.0.as_ptr()) }
    }
}

/// Makes weights that models held go back to the system as soon as they are unloaded.
///
/// glibc raises the size from which an allocation is a mapping of its own each time that one is
/// given back, up to 32 MiB: weights then lie in the heap, and what is freed there stays with the
/// process. Once set, the size stays. Measured with ONNX Runtime 1.31.1: eight models of 10 MB took
/// 145 MB and gave back none, with this 81 MB and all but 1 MB; two of 100 MB 280 and 200 MB; runs
/// took as long. Other C libraries have no such rule.
pub(crate) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        /// glibc's first value, and the number of the setting in `malloc.h`.
        const MMAP_THRESHOLD_BYTES: c_int = 128 << 10;
        const M_MMAP_THRESHOLD: c_int = -3;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // SAFETY: `mallopt` is declared as in glibc's `malloc.h`, takes numbers only, and may be
        // called at any time.
        unsafe { mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    }
}

/// Gives what is free back to the system when it is dropped; to be dropped after a session.
///
/// Weights go back by themselves ([`return_freed_memory`]), but what is small lies in the heaps of
/// the threads that loaded, up to eight for each core, and glibc gives back only the end of each. 14,000
/// loads and unloads of a model of 1 MiB by 32 clients left the process 1.6 MB larger.
pub(crate) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            use std::ffi::c_int;
            unsafe extern "C" {
                fn malloc_trim(pad: usize) -> c_int;
            }
            // SAFETY: `malloc_trim` is declared as in glibc's `malloc.h`; it may be called at any time,
            // from any thread, and touches only what is free.
            unsafe { malloc_trim(0) };
        }
    }
}

fn default_allocator() -> Result<*mut OrtAllocator> {
    let mut allocator = ptr::null_mut();
    // SAFETY: the default allocator lives as long as the process and is never released.
    check(unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&mut allocator) })?;
    Ok(allocator)
}

/// Whether `data` may be used as elements of `dtype` where it lies.
pub(crate) fn is_aligned(data: &[u8], dtype: DataType) -> bool {
    data.is_empty() || data.as_ptr().align_offset(dtype.size().unwrap_or(1)) == 0
}

fn signed(shape: &Shape) -> Result<PerTensor<i64>> {
    let dims: Option<PerTensor<i64>> = shape.iter().map(|&dim| i64::try_from(dim).ok()).collect();
    dims.ok_or_else(|| Error::invalid_input(format!("shape {shape} has an extent beyond 2^63")))
}
