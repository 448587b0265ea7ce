"""Runs what scikit-learn saved: an estimator or a pipeline, by joblib, pickle or skops.

Numbers are taken as FP64, which is what estimators are trained on: 5.1 as FP32 is another number,
and a step in front of a tree would carry the difference over a threshold. Where model.toml says
FP32, the model gets FP32, as in `model.predict(rows.astype("float32"))`.
"""

import os
import pickle
import warnings

import numpy as np
from salver import InvalidInput

NUMPY = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
TEXTS = ("STRING", "BYTES", "str")
KINDS = {".joblib": "joblib", ".pkl": "pickle", ".pickle": "pickle", ".skops": "skops"}


class Adapter:
    """An estimator behind named inputs and outputs."""

    def load(self, context):
        if context.device != "cpu":
            raise ValueError(f"scikit-learn runs on the CPU: leave out device = {context.device!r} in [instances]")
        self.model = read(str(context.artifact), context.settings)
        if not hasattr(self.model, "predict") and not hasattr(self.model, "transform"):
            kind = type(self.model).__name__
            raise ValueError(f"the file holds a {kind}, which has neither `predict` nor `transform`")
        limit_threads(self.model, context.threads)
        needed("threadpoolctl", "threadpoolctl").threadpool_limits(limits=context.threads)
        names = getattr(self.model, "feature_names_in_", None)
        self.names = None if names is None else [str(name) for name in names]
        self.categories = categories(self.model)
        self.methods = methods(self.model)
        trial = self.try_inputs(context)
        self.outputs = outputs(trial, context.outputs)

    def predict(self, batch):
        table = self.table(batch)
        try:
            answer = self.answer(table, self.outputs)
        except ValueError as error:
            # Types and shapes were checked: what is left are values, such as NaN or an unknown category.
            raise InvalidInput(f"{type(self.model).__name__}: {error}") from error
        return {name: answer[name].astype(numpy_type(kind), copy=False) for name, (kind, _) in self.outputs.items()}

    def answer(self, table, wanted=None):
        """All outputs by name, or those that are wanted."""
        names = [name for name in self.methods if wanted is None or name in wanted]
        return {name: dense(self.methods[name](table)) for name in names}

    def try_inputs(self, context):
        """Sets inputs and form so that a made-up row gets an answer, which it returns."""
        declared = {name: (kind, list(shape)) for name, (kind, shape) in context.inputs.items()}
        candidates = [(declared, self.declared_form(declared))] if declared else self.candidates()
        reason = "the model does not say how many columns it was trained on"
        for self.inputs, self.form in candidates:
            try:
                return self.answer(self.made_up())
            except Exception as error:  # The model's own code: anything may come.
                reason = f"{type(error).__name__}: {first_line(error)}"
        if not declared:
            raise ValueError(f"what this model takes is not clear ({reason}). {self.advice()}")
        if not context.outputs:
            expected = lines("output", dict.fromkeys(self.methods, "FP64"))
            raise ValueError(
                f"the model fails on a made-up row ({reason}), so what it gives is not clear. "
                f"If that row cannot be, say what it gives, with types and shapes, {expected}"
            )
        return None

    def candidates(self):
        """What the model may take, as it seems: inputs and form, the best guess first."""
        width = getattr(self.model, "n_features_in_", None)
        if takes_texts(self.model):
            yield {"text": ("STRING", [-1])}, "texts"
        if width is None:
            return
        if self.names and pandas_or_none() and any(name in self.categories for name in self.names):
            kinds = {name: "STRING" if name in self.categories else "FP64" for name in self.names}
            yield {name: (kind, [-1]) for name, kind in kinds.items()}, "columns"
        yield {"X": ("FP64", [-1, int(width)])}, "matrix"

    def advice(self):
        """What to write in model.toml."""
        kinds = {name: "STRING" if name in self.categories else "FP64" for name in self.names or ["NAME"]}
        return f"Say it, with the types of your training table, {lines('input', kinds)}"

    def declared_form(self, inputs):
        """Which table the declared inputs make, checked against the columns of training."""
        (first, (kind, shape)), several = next(iter(inputs.items())), len(inputs) > 1
        if not several and len(shape) == 1 and kind in TEXTS and not self.names:
            return "texts"
        if not several and len(shape) == 2 and first not in (self.names or []):
            return "matrix"
        missing = [name for name in self.names or [] if name not in inputs]
        unknown = [name for name in inputs if self.names and name not in self.names]
        if missing or unknown:
            raise ValueError(f"model.toml has no inputs {missing} and unknown ones {unknown}; trained on {self.names}")
        for name, (_, shape) in inputs.items():
            if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
                raise ValueError(f"input `{name}` of model.toml is a column: expected shape [-1], got {list(shape)}")
        return "columns"

    def table(self, batch):
        """What the model takes, of the inputs by name."""
        if self.form == "texts":
            return texts(next(iter(batch.values())))
        pandas = pandas_or_none()
        if self.form == "matrix":
            matrix = next(iter(batch.values()))
            if self.inputs[next(iter(self.inputs))][0] in TEXTS:
                matrix = np.array([texts(row) for row in matrix], dtype=object)
            return pandas.DataFrame(matrix, columns=self.names) if self.names and pandas else matrix
        order = self.names or list(self.inputs)
        columns = {name: column(batch[name]) for name in order}
        trained_on_arrays = self.names is None and hasattr(self.model, "n_features_in_")
        if pandas and not trained_on_arrays:
            return pandas.DataFrame(columns)
        if any(values.dtype == object for values in columns.values()):
            raise ModuleNotFoundError("columns of texts need the package pandas: pip install pandas")
        return np.column_stack(list(columns.values()))

    def made_up(self):
        """A row that any such model takes."""
        batch = {}
        for name, (kind, shape) in self.inputs.items():
            shape = [1, *(1 if size < 0 else size for size in shape[1:])]
            fill = self.categories.get(name, "")
            batch[name] = np.full(shape, fill, object) if kind in TEXTS else np.zeros(shape, numpy_type(kind))
        return self.table(batch)


def read(path, settings):
    """The object in the file."""
    ending = os.path.splitext(path)[1].lower()
    kind = KINDS.get(ending)
    if kind is None:
        raise ValueError(f"the file ends in `{ending}`; expected one of {', '.join(KINDS)}")
    needed("sklearn", "scikit-learn")
    with warnings.catch_warnings():
        # Whoever saved it with another version should read it in the log; it is no reason to stop.
        warnings.simplefilter("default", UserWarning)
        if kind == "skops":
            return read_skops(path, settings)
        if kind == "joblib":
            return needed("joblib", "joblib").load(path)
        with open(path, "rb") as file:
            magic = file.peek(1)[:1]
        if magic != b"\x80":  # Files named .pkl are often joblib's, compressed ones too.
            return needed("joblib", "joblib").load(path)
        try:
            with open(path, "rb") as file:
                return pickle.load(file)
        except pickle.UnpicklingError:
            return needed("joblib", "joblib").load(path)


def read_skops(path, settings):
    """What skops keeps runs nothing; types beyond its own list must be named."""
    io = needed("skops.io", "skops")
    trusted = [name.strip() for name in settings.get("trusted", "").split(",") if name.strip()]
    unknown = sorted(set(io.get_untrusted_types(file=path)) - set(trusted))
    if unknown:
        names = ",".join([*trusted, *unknown])
        raise ValueError(
            f"the file needs types that skops does not trust: {', '.join(unknown)}. "
            f'If you know them, write under [python.settings] in model.toml: trusted = "{names}"'
        )
    return io.load(path, trusted=trusted)


def methods(model):
    """What the model answers, by the output's name."""
    if not hasattr(model, "predict"):
        return {"output": model.transform}
    if not hasattr(model, "classes_"):
        return {"prediction": model.predict}
    found = {"label": model.predict}
    if hasattr(model, "predict_proba") and not isinstance(model.classes_, list):
        found["probabilities"] = model.predict_proba
    return found


def outputs(trial, declared):
    """Types and shapes, of a trial's answer; what is declared chooses among them."""
    if trial is None:
        return {name: (kind, list(shape)) for name, (kind, shape) in declared.items()}
    found = {name: (wire_type(array), [-1, *array.shape[1:]]) for name, array in trial.items()}
    if "probabilities" in found:  # Chances need no more digits; predictions keep those of the model.
        found["probabilities"] = ("FP32", found["probabilities"][1])
    for name, (kind, shape) in declared.items():
        if name not in found:
            raise ValueError(f"output `{name}` of model.toml: this model has {', '.join(found)}")
        if len(shape) != len(found[name][1]):
            raise ValueError(f"output `{name}` of model.toml: expected shape {found[name][1]}, got {list(shape)}")
        if (kind in TEXTS) != (found[name][0] in TEXTS):
            raise ValueError(f"output `{name}` of model.toml: expected dtype {found[name][0]}, got {kind}")
    return {name: (kind, list(shape)) for name, (kind, shape) in declared.items()} or found


def takes_texts(model):
    """Whether the first step counts words."""
    first = model.steps[0][1] if hasattr(model, "steps") else model
    return hasattr(first, "analyzer") and hasattr(first, "ngram_range")


def categories(model):
    """Columns that an encoder knows as texts, each with one of its values."""
    found = {}
    for columns, step in column_steps(model):
        for part in [step, *(part for _, part in getattr(step, "steps", []))]:
            for name, values in zip(columns, getattr(part, "categories_", [])):
                known = [value for value in values if isinstance(value, str)]
                if known:
                    found[str(name)] = known[0]
    return found


def column_steps(model):
    """What a ColumnTransformer, or an encoder in front, does with which columns."""
    steps = [step for _, step in getattr(model, "steps", [(None, model)])]
    for step in steps[:2]:
        for _, part, columns in getattr(step, "transformers_", []):
            if not isinstance(columns, (str, slice)):
                names = getattr(model, "feature_names_in_", None)
                yield [names[c] if isinstance(c, (int, np.integer)) and names is not None else c for c in columns], part
        if hasattr(step, "categories_"):
            yield getattr(step, "feature_names_in_", []), step


def limit_threads(part, threads, seen=None):
    """Workers are there for other cores: a forest saved with n_jobs=-1 would start threads on all."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, (list, tuple)):
        for inner in part:
            limit_threads(inner, threads, seen)
    elif hasattr(part, "get_params") and not isinstance(part, type):
        if hasattr(part, "n_jobs"):
            part.n_jobs = threads
        for inner in vars(part).values():
            limit_threads(inner, threads, seen)


def lines(kind, types):
    """What to write in model.toml; one line, because a log shows the last ones."""
    each = ", ".join(f'{{ name = "{name}", dtype = "{dtype}", shape = [-1] }}' for name, dtype in types.items())
    return f"at the top of model.toml: {kind} = [{each}]"


def dense(answer):
    """An array of plain numbers or texts, of whatever the model gives."""
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    array = np.asarray(answer)
    if array.dtype.kind in "US":
        array = array.astype(object)
    return array


def wire_type(array):
    if array.dtype == object:
        return "STRING"
    return next((wire for wire, name in NUMPY.items() if array.dtype == name), "FP64")


def numpy_type(kind):
    """numpy's type of a declared one, which has the protocol's name or numpy's."""
    return np.dtype(object) if kind in TEXTS else np.dtype(NUMPY.get(kind, kind))


def texts(values):
    return [value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1)]


def column(values):
    flat = values.reshape(-1)
    return np.array(texts(flat), dtype=object) if flat.dtype == object else flat


def pandas_or_none():
    try:
        import pandas
    except ImportError:
        return None
    return pandas


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
