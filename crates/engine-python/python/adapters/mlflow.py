"""Runs a folder that MLflow saved, whatever made it, through MLflow's own `pyfunc`.

The signature in the MLmodel says how the inputs go in: columns become a DataFrame with the types
that they were trained on, one tensor an array, named tensors a dict. Whatever comes back, arrays,
tables, lists or dicts, becomes named outputs; one without a name is called `predictions`.
"""

import os

import numpy as np
from salver import InvalidInput

NUMPY = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
TEXTS = ("STRING", "BYTES", "str")
# MLflow's types of columns, on the wire; times are texts in ISO 8601.
COLUMNS = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64",
    "string": "STRING", "binary": "BYTES", "datetime": "STRING",
}  # fmt: skip
CALLERS_FAULTS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class Adapter:
    """A model behind `mlflow.pyfunc`."""

    def load(self, context):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_DEFAULT_PREDICTION_DEVICE", context.device)
        pyfunc = needed("mlflow.pyfunc", "mlflow")
        folder = str(context.artifact)
        folder = folder if os.path.isdir(folder) else os.path.dirname(folder)
        try:
            self.model = pyfunc.load_model(folder)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the model needs the package {error.name}, which is not installed in this environment; "
                "what it was made with stands in its own requirements.txt",
                name=error.name,
            ) from error
        schema = self.model.metadata.get_input_schema()
        self.form, found = inputs(schema, context.inputs)
        self.inputs = {name: (kind, list(shape)) for name, (kind, shape) in context.inputs.items()} or found
        self.columns = schema.input_names() if schema is not None and self.form in ("columns", "matrix") else []
        self.times = times(schema)
        self.outputs = {name: (kind, list(shape)) for name, (kind, shape) in context.outputs.items()}
        if not self.outputs:
            self.outputs = {name: (wire_type(array), [-1, *array.shape[1:]]) for name, array in self.trial().items()}

    def predict(self, batch):
        rows = len(next(iter(batch.values())))
        answer = named(self.ask(self.table(batch)))
        return fitted(answer, self.outputs, rows)

    def ask(self, table):
        """MLflow's answer; what contradicts the signature is the caller's fault."""
        try:
            return self.model.predict(table)
        except Exception as error:
            if getattr(error, "error_code", None) in CALLERS_FAULTS:
                raise InvalidInput(str(error)) from error
            raise

    def trial(self):
        """What comes out, of the example that was saved with the model, else of a made-up row."""
        try:
            example = self.model.input_example if hasattr(self.model, "input_example") else None
            if example is None:
                batch = {name: made_up(kind, shape, name in self.times) for name, (kind, shape, *_) in self.inputs.items()}
                example = self.table(batch)
            return named(self.model.predict(example))
        except Exception as error:  # The model's own code: anything may come.
            raise ValueError(
                f"the model fails on its example, or on a made-up row ({type(error).__name__}: {first_line(error)}), so "
                "what it gives is not clear. Save it with a signature, or say what it gives at the top of model.toml: "
                'output = [{ name = "predictions", dtype = "FP64", shape = [-1] }]'
            ) from error

    def table(self, batch):
        """What the model takes, of the inputs by name."""
        if self.form == "tensor":
            return only(batch)
        if self.form == "tensors":
            return {name: batch[name] for name in self.inputs}
        pandas = needed("pandas", "pandas")
        if self.form == "matrix":
            return pandas.DataFrame(only(batch), columns=self.columns)
        if self.form == "unnamed":
            return pandas.DataFrame({idx: batch[name].reshape(-1) for idx, name in enumerate(self.inputs)})
        # A column that may be missing is missing for MLflow too.
        columns = {name: batch[name].reshape(-1) for name in self.columns or self.inputs if name in batch}
        for name in self.times & columns.keys():
            columns[name] = parsed_times(pandas, name, columns[name])
        return pandas.DataFrame(columns)


def inputs(schema, declared):
    """How the data goes in, and the inputs as the signature has them."""
    if schema is None:
        if not declared:
            raise ValueError(
                "this model was saved without a signature, so what it takes is not clear. Save it with one "
                "(mlflow.models.infer_signature), or say its columns or its tensor at the top of model.toml: "
                'input = [{ name = "NAME", dtype = "FP64", shape = [-1] }]'
            )
        several = len(declared) > 1 or all(len(shape) == 1 for _, shape in declared.values())
        return "columns" if several else "tensor", {}
    if schema.is_tensor_spec():
        form = "tensors" if schema.has_input_names() else "tensor"
        found = {spec.name or "input": (wire_type_of(spec.type), list(spec.shape)) for spec in schema.inputs}
    else:
        form = "columns" if schema.has_input_names() else "unnamed"
        numbered = len(schema.inputs) > 1
        found = {
            spec.name or (str(idx) if numbered else "input"): (column_type(spec), [-1], not spec.required)
            for idx, spec in enumerate(schema.inputs)
        }
    if not declared or set(declared) == set(found) or (len(declared) == len(found) == 1):
        return form, found
    if form == "columns" and len(declared) == 1 and len(next(iter(declared.values()))[1]) == 2:
        return "matrix", found
    raise ValueError(f"model.toml declares the inputs {list(declared)}, the model's signature has {list(found)}")


def column_type(spec):
    kind = COLUMNS.get(getattr(spec.type, "name", ""))
    if kind is None:
        raise ValueError(f"the column `{spec.name}` has the type {spec.type}; columns here are {', '.join(COLUMNS)}")
    return kind


def times(schema):
    """The columns of the type datetime."""
    specs = [] if schema is None or schema.is_tensor_spec() else schema.inputs
    return {spec.name for spec in specs if getattr(spec.type, "name", "") == "datetime"}


def parsed_times(pandas, name, values):
    try:
        parsed = pandas.to_datetime(list(values), format="ISO8601", utc=True)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"input `{name}`: expected times in ISO 8601, such as 2024-05-31T12:00:00: {error}") from error
    return parsed.tz_localize(None).astype("datetime64[ns]")


def named(result):
    """Arrays by name, of whatever the model gave."""
    if hasattr(result, "toarray"):
        result = result.toarray()
    if hasattr(result, "columns") and hasattr(result, "to_dict"):
        names = list(result.columns)
        if len(names) == 1 and not isinstance(names[0], str):
            return {"predictions": plain(result[names[0]])}
        return {str(name): plain(result[name]) for name in names}
    if isinstance(result, dict):
        return {str(name): plain(values) for name, values in result.items()}
    if isinstance(result, (list, tuple)) and result and all(isinstance(row, dict) for row in result):
        return {str(name): plain([row[name] for row in result]) for name in result[0]}
    return {"predictions": plain(result)}


def plain(values):
    """An array of numbers, or of `str` or `bytes`; what is missing is NaN or an empty text."""
    array = np.asarray(values)
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype != object:
        return array
    present = [value for value in array.reshape(-1) if not is_missing(value)]
    if not present or all(isinstance(value, (int, float, np.number, np.bool_)) for value in present):
        filled = [float("nan") if is_missing(value) else float(value) for value in array.reshape(-1)]
        return np.array(filled).reshape(array.shape)
    if not all(isinstance(value, (str, bytes)) for value in present):
        kinds = sorted({type(value).__name__ for value in present})
        raise ValueError(f"the model gave values of type {', '.join(kinds)}; expected numbers or texts")
    empty = b"" if isinstance(present[0], bytes) else ""
    return objects([empty if is_missing(value) else value for value in array.reshape(-1)], array.shape)


def objects(values, shape):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def is_missing(value):
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def fitted(answer, outputs, rows):
    """The declared outputs, of an answer that may have other names or be one array for all of them."""
    if not set(outputs) <= set(answer):
        arrays = list(answer.values())
        if len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == len(outputs) > 1:
            arrays = [arrays[0][:, index] for index in range(len(outputs))]
        if len(arrays) != len(outputs):
            raise ValueError(f"the model gave {', '.join(answer)}; declared are {', '.join(outputs)}")
        answer = dict(zip(outputs, arrays))
    return {name: shaped(answer[name], kind, shape, rows, name) for name, (kind, shape) in outputs.items()}


def shaped(array, kind, shape, rows, name):
    """One column is the same as no column; anything else has to be as it was declared."""
    if array.ndim == 0 or len(array) != rows:
        found = "one value" if array.ndim == 0 else f"{len(array)} rows"
        raise ValueError(f"output `{name}`: the model gave {found} for {rows} rows; it must answer each row")
    if array.ndim != len(shape) and array.size == rows:
        array = array.reshape([rows, *[1] * (len(shape) - 1)])
    if kind in TEXTS and array.dtype != object:  # Texts that are all missing look like numbers.
        return objects(["" if is_missing(value) else str(value) for value in array.reshape(-1).tolist()], array.shape)
    if kind in TEXTS:
        return array
    return array.astype(NUMPY.get(kind, kind), copy=False)


def made_up(kind, shape, is_time):
    shape = [1, *(1 if size < 0 else size for size in shape[1:])]
    if kind in TEXTS:
        return np.full(shape, "2000-01-01" if is_time else b"" if kind == "BYTES" else "", dtype=object)
    return np.zeros(shape, NUMPY.get(kind, kind))


def wire_type(array):
    if array.dtype == object:
        return "BYTES" if array.size and isinstance(array.reshape(-1)[0], bytes) else "STRING"
    return wire_type_of(array.dtype)


def wire_type_of(dtype):
    if np.dtype(dtype).kind in "OUS":
        return "STRING"
    return next((wire for wire, name in NUMPY.items() if dtype == name), "FP64")


def only(batch):
    return next(iter(batch.values()))


def needed(module, package):
    """The module, or what to do where it is missing."""
    try:
        return __import__(module, fromlist=["_"])
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            raise
        message = f"the package {package} is not installed in this environment: pip install {package}"
        raise ModuleNotFoundError(message, name=error.name) from None


def first_line(error):
    return (str(error).splitlines() or [""])[0]
