//! The vocabulary of the model server.
//!
//! Tensors, signatures, requests and errors, and the traits between the parts: [`Infer`] (one
//! request in, one response out), [`ModelControl`] (what is loaded), [`ModelSource`] (what could
//! be), [`SharedCache`] (answers that servers share), [`Task`] (people's data to tensors and back), and [`Engine`] / [`Model`] / [`Instance`] (who
//! computes). No sockets, files or threads
//! live here, and no wire format: everything depends on this crate, so it depends on nothing.

mod asynchronous;
mod builtin;
mod cache;
mod context;
mod control;
mod cost;
mod dtype;
mod elements;
mod engine;
mod ensemble;
mod error;
mod features;
mod infer;
mod name;
mod python;
mod ragged;
mod remote;
mod sequence;
mod shape;
mod signature;
mod spec;
mod staging;
mod task;
mod tensor;

pub use asynchronous::{AsyncCall, AsyncModel};
pub use builtin::{BuiltinSpec, CropSpec, DecodeSpec, LabelsSpec, PixelLayout, TokenPadding, TokenizeSpec, TopKSpec};
pub use cache::{CacheKey, CacheOutcome, CacheUse, OnMiss, SharedCache, SharedEntry};
pub use context::{Class, Context};
pub use control::{
    BatchStat, DurationStat, MemoryUse, ModelControl, ModelState, ModelStatistics, ModelStatus, ResidentModel,
};
pub use cost::{Bill, Cost};
pub use dtype::{DataType, Element};
pub use elements::{Elements, ElementsBuilder};
pub use engine::{BatchLayout, Engine, InputLayout, Inputs, Instance, Interrupt, Model, Placement};
pub use ensemble::{
    Comparison, Condition, Constant, EnsembleGraph, EnsembleOutput, EnsembleSpec, GraphStep, OnFailure, Source,
    StepSpec, StepStatistics,
};
pub use error::{Error, ErrorKind, Result};
pub use features::{FeatureRows, FeatureSpec, FeaturesSpec, KeyType, MissingRow};
pub use futures::future::BoxFuture;
pub use futures::stream::BoxStream;
pub use infer::{
    Deferred, Infer, InferRequest, InferResponse, Inferred, ModelInfo, Observe, Parameter, Parameters, Timings,
};
pub use name::{ModelName, ModelRef, Selector};
pub use python::{Predictor, PythonEnvironment, PythonSpec, PythonTensor};
pub use ragged::{BatchInput, BatchInputKind, BatchOutput, NumberType};
pub use remote::{Prices, RemoteApi, RemoteSpec, RemoteTensors};
pub use sequence::{
    ControlKind, FalseTrue, InitialState, SequenceBatching, SequenceControl, SequenceState, SequenceStrategy,
};
pub use shape::Shape;
pub use signature::{Batching, Dim, Signature, TensorSpec};
pub use spec::{
    Backing, BatchRule, Checksum, DynamicBatching, EnsembleScheduling, InstanceGroup, IoConfig, LoadOverride,
    ModelConfig, ModelEntry, ModelSource, ModelSpec, OverrideFile, Padding, QueuePolicy, ScheduledStep, VersionPolicy,
    WarmupData, WarmupInput, WarmupRequest,
};
pub use staging::StagingBuffer;
pub use task::{
    CategoryEncoding, Colours, ColumnKind, ColumnSpec, Encoded, Filling, Filter, ImageSpec, Notes, Overlong,
    PartLimits, Pooling, PoolingMode, Resize, ScoreRule, TabularSpec, Task, TaskMaker, TaskSpec, TextSpec, TextTask,
    UnknownCategory, bucket, quarter_steps,
};
pub use tensor::Tensor;
