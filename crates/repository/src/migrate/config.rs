//! A `config.pbtxt`, field by field.

use prost_reflect::{DynamicMessage, MapKey, Value};

use super::{Note, Status, hints, located};
use crate::pbtxt;
use crate::text::Lines;

/// Fields that tune Triton itself, or label what it measures: no answer depends on them.
const IGNORED: [(&str, &str); 7] = [
    ("runtime", "the engine is found by its name"),
    ("cc_model_filenames", "one graph serves every device"),
    ("metric_tags", "metrics have the labels model and version"),
    ("model_operations", "libraries of operators are not loaded"),
    ("model_repository_agents", "nothing is done to a folder before it is read"),
    ("model_metrics", "metrics have buckets of their own"),
    ("optimization", "the engine does this by itself"),
];

/// The same within inputs, outputs and groups of instances.
const IGNORED_WITHIN: [(&str, &str, &str); 10] = [
    ("input", "format", "shown to clients; shapes say the same"),
    ("input", "is_shape_tensor", "the engine knows by itself"),
    ("input", "is_non_linear_format_io", "the engine knows by itself"),
    ("output", "is_shape_tensor", "the engine knows by itself"),
    ("output", "is_non_linear_format_io", "the engine knows by itself"),
    ("instance_group", "rate_limiter", "instances do not share resources"),
    ("instance_group", "secondary_devices", "there is one device for each instance"),
    ("instance_group", "profile", "graphs have no profiles"),
    ("instance_group", "passive", "every instance serves"),
    ("instance_group", "host_policy", "pin cores with `cores` in a model.toml"),
];

/// Parameters that have an effect.
const PARAMETERS: [&str; 3] = ["intra_op_thread_count", "inter_op_thread_count", "run_timeout_ms"];

/// What a GPU takes.
const GPU: &str = "an ONNX Runtime with CUDA (--ort-lib FILE); without one the model does not load. kind: KIND_CPU \
                   serves everywhere";

/// Notes every field of the configuration of the model `name`, which is the text of `file`.
pub(super) fn notes(file: &str, text: &str, name: &str) -> Vec<Note> {
    let review = match pbtxt::review(text, name) {
        Ok(review) => review,
        Err(error) => {
            let (line, what) = located(&error);
            let note = Note::new(file, Status::Refused, "text", what);
            return vec![Note { line, ..note }];
        }
    };
    let mut fields = Fields { file, lines: &review.lines, notes: Vec::new() };
    for (path, error) in &review.faults {
        let (field, _) = pbtxt::outermost(path);
        let note = Note::new(file, Status::Refused, field, error.message());
        let todo = hints::of_fault(path, error.message());
        fields.notes.push(note.at(review.lines.of(path)).todo(todo));
    }
    let is_blamed = |path: &str| review.faults.iter().any(|(fault, _)| is_within(fault, path));
    fields.walk(&review.config, is_blamed);
    let mut notes = fields.notes;
    notes.sort_by_key(|note| (note.line, note.status));
    notes
}

/// Whether `path` is `outer` or lies within it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

struct Fields<'a> {
    file: &'a str,
    lines: &'a Lines,
    notes: Vec<Note>,
}

impl Fields<'_> {
    fn note(&mut self, path: &str, status: Status, what: &str, why: impl Into<String>) {
        self.notes.push(Note::new(self.file, status, what, why).at(self.lines.of(path)));
    }

    fn walk(&mut self, config: &DynamicMessage, is_blamed: impl Fn(&str) -> bool) {
        for (field, value) in config.fields() {
            let name = field.name();
            match value {
                Value::Map(parameters) if name == "parameters" => {
                    for key in parameters.keys().filter_map(MapKey::as_str) {
                        let path = format!("parameters[{key}]");
                        if !is_blamed(&path) {
                            self.parameter(&path, key);
                        }
                    }
                }
                Value::List(items) => {
                    for (idx, item) in items.iter().enumerate() {
                        let path = format!("{name}[{idx}]");
                        if !is_blamed(&path) {
                            self.element(&path, name, item);
                        }
                    }
                }
                Value::Message(message) if name == "optimization" => self.optimization(message, &is_blamed),
                _ if is_blamed(name) => {}
                _ => match IGNORED.iter().find(|(ignored, _)| *ignored == name) {
                    Some((_, why)) => self.note(name, Status::Ignored, name, *why),
                    None => self.note(name, Status::Serves, name, ""),
                },
            }
        }
    }

    fn parameter(&mut self, path: &str, key: &str) {
        let what = format!("parameters: {key}");
        match PARAMETERS.contains(&key) {
            true => self.note(path, Status::Serves, &what, ""),
            false => self.note(path, Status::Ignored, &what, "shown to clients, without another effect"),
        }
    }

    fn element(&mut self, path: &str, field: &str, item: &Value) {
        let Value::Message(item) = item else {
            return self.note(path, Status::Serves, field, "");
        };
        let text = |name: &str| item.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned));
        let what = match text("name").filter(|name| !name.is_empty()) {
            Some(name) => format!("{field}: {name}"),
            None => field.to_owned(),
        };
        let is_gpu = field == "instance_group"
            && item.get_field_by_name("kind").and_then(|kind| kind.as_enum_number()) == Some(GPU_KIND);
        if is_gpu {
            self.note(path, Status::Needs, &what, GPU);
        } else {
            self.note(path, Status::Serves, &what, "");
        }
        for (_, inner, why) in IGNORED_WITHIN.iter().filter(|(outer, _, _)| *outer == field) {
            if item.has_field_by_name(inner) {
                self.note(&format!("{path}.{inner}"), Status::Ignored, inner, *why);
            }
        }
    }

    /// Of all of it, only accelerators have an effect.
    fn optimization(&mut self, message: &DynamicMessage, is_blamed: &impl Fn(&str) -> bool) {
        for (field, _) in message.fields() {
            let path = format!("optimization.{}", field.name());
            let what = format!("optimization: {}", field.name());
            if field.name() != "execution_accelerators" {
                self.note(&path, Status::Ignored, &what, "the engine does this by itself");
            } else if !is_blamed(&path) {
                let why = "an ONNX Runtime with that provider (--ort-lib FILE); without one the model does not load";
                self.note(&path, Status::Needs, &what, why);
            }
        }
    }
}

/// `KIND_GPU`.
const GPU_KIND: i32 = crate::schema::triton::model_instance_group::Kind::Gpu as i32;
