"""Runs a folder that Hugging Face's `transformers` saved, with its own code and its tokenizer.

The task comes from the setting `task`, else from the class of the model in config.json. Nothing is
fetched, and code that lies in the folder is not run: `trust_remote_code` stays off.
"""

import io
import os

import numpy as np
from salver import InvalidInput

# The classes of models that do a task, by how their names end.
ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForConditionalGeneration": "text2text-generation",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "Model": "feature-extraction",
}
# What a tokenizer says that knows no limit.
NO_LIMIT = 1_000_000


class Adapter:
    """A model with its tokenizer or picture processor."""

    def load(self, context):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        torch = needed("torch", "torch")
        transformers = needed("transformers", "transformers")
        torch.set_num_threads(context.threads)
        if context.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device {context.device!r}: this PyTorch ({torch.__version__}) finds no CUDA device")
        folder = str(context.artifact)
        folder = folder if os.path.isdir(folder) else os.path.dirname(folder)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        task = context.settings.get("task") or task_of(config)
        if task not in TASKS:
            raise ValueError(
                f"the task `{task}` is not one that is served here: {', '.join(TASKS)}. "
                "For another one, write a class with load and predict around transformers.pipeline"
            )
        self.task = TASKS[task](transformers, torch, folder, context)
        self.inputs, self.outputs = self.task.inputs, self.task.outputs
        for what, declared, own in (("inputs", context.inputs, self.inputs), ("outputs", context.outputs, self.outputs)):
            if declared and set(declared) != set(own):
                raise ValueError(f"model.toml declares the {what} {list(declared)}; the task `{task}` has {own}")

    def predict(self, batch):
        return self.task(next(iter(batch.values())).reshape(-1))


class Texts:
    """What tasks of texts share."""

    inputs = {"text": ("STRING", [-1])}

    def __init__(self, transformers, torch, folder, context, kind):
        self.torch, self.device = torch, torch.device(context.device)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
        self.model = model.to(self.device).eval()
        self.limit = token_limit(self.tokenizer, model.config, context.settings)

    def tokens(self, texts):
        """Token ids of all texts, as long as the longest; longer than the model takes is cut."""
        found = self.tokenizer(
            list(texts), padding=True, truncation=self.limit is not None, max_length=self.limit, return_tensors="pt"
        )
        return found.to(self.device)


class TextClassification(Texts):
    """The most likely class of each text, through the pipeline."""

    outputs = {"label": ("STRING", [-1]), "score": ("FP32", [-1])}

    def __init__(self, transformers, torch, folder, context):
        super().__init__(transformers, torch, folder, context, "AutoModelForSequenceClassification")
        self.pipeline = transformers.pipeline(
            "text-classification", model=self.model, tokenizer=self.tokenizer, device=self.device
        )

    def __call__(self, texts):
        cut = {"truncation": self.limit is not None, "max_length": self.limit, "padding": True}
        return best(self.pipeline(list(texts), batch_size=len(texts), top_k=1, **cut))


class Embedding(Texts):
    """One vector for each text: of its tokens' vectors, the mean or the first."""

    def __init__(self, transformers, torch, folder, context):
        super().__init__(transformers, torch, folder, context, "AutoModel")
        self.pooling = one_of(context.settings, "pooling", ["mean", "cls"])
        self.normalize = one_of(context.settings, "normalize", ["false", "true"]) == "true"
        self.outputs = {"embedding": ("FP32", [-1, self(["a"])["embedding"].shape[1]])}

    def __call__(self, texts):
        with self.torch.inference_mode():
            tokens = self.tokens(texts)
            hidden = self.model(**tokens).last_hidden_state.float()
            if self.pooling == "cls":
                vectors = hidden[:, 0]
            else:
                mask = tokens["attention_mask"].unsqueeze(-1).float()
                vectors = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            if self.normalize:
                vectors = self.torch.nn.functional.normalize(vectors, dim=1)
        return {"embedding": vectors.cpu().numpy()}


class Generation(Texts):
    """A new text for each text: what follows it, or what a model of two halves makes of it."""

    outputs = {"text": ("STRING", [-1])}
    continues = True

    def __init__(self, transformers, torch, folder, context):
        kind = "AutoModelForCausalLM" if self.continues else "AutoModelForSeq2SeqLM"
        super().__init__(transformers, torch, folder, context, kind)
        settings = context.settings
        self.prefix = settings.get("prefix", "")
        self.options = {
            "max_new_tokens": whole(settings, "max_new_tokens", 64),
            # The same text gets the same answer, unless that is not wanted.
            "do_sample": one_of(settings, "sample", ["false", "true"]) == "true",
        }
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.continues:
            # New tokens have to follow the text, not its padding; and there must be room for them.
            self.tokenizer.padding_side = self.tokenizer.truncation_side = "left"
            self.limit = self.limit and max(1, self.limit - self.options["max_new_tokens"])

    def __call__(self, texts):
        if self.continues and any(not self.prefix + text for text in texts):
            raise InvalidInput("input `text` is empty: there is nothing to continue")
        with self.torch.inference_mode():
            tokens = self.tokens([self.prefix + text for text in texts])
            tokens.pop("token_type_ids", None)
            made = self.model.generate(**tokens, **self.options, pad_token_id=self.tokenizer.pad_token_id)
        if self.continues:
            made = made[:, tokens["input_ids"].shape[1] :]
        return {"text": np.array(self.tokenizer.batch_decode(made, skip_special_tokens=True), dtype=object)}


class Rewriting(Generation):
    """Summaries, translations: models that read a whole text first."""

    continues = False


class ImageClassification:
    """The most likely class of each picture, through the pipeline."""

    inputs = {"image": ("BYTES", [-1])}
    outputs = TextClassification.outputs

    def __init__(self, transformers, torch, folder, context):
        self.images = needed("PIL.Image", "pillow")
        self.pipeline = transformers.pipeline(
            "image-classification", model=folder, device=torch.device(context.device)
        )

    def __call__(self, files):
        pictures = [self.picture(idx, file) for idx, file in enumerate(files)]
        return best(self.pipeline(pictures, batch_size=len(pictures), top_k=1))

    def picture(self, idx, file):
        try:
            return self.images.open(io.BytesIO(file)).convert("RGB")
        except (OSError, SyntaxError, ValueError, self.images.DecompressionBombError) as error:
            raise InvalidInput(f"input `image`, row {idx}: not a picture that can be read: {error}") from error


TASKS = {
    "text-classification": TextClassification,
    "sentiment-analysis": TextClassification,
    "feature-extraction": Embedding,
    "text-embedding": Embedding,
    "text-generation": Generation,
    "text2text-generation": Rewriting,
    "summarization": Rewriting,
    "translation": Rewriting,
    "image-classification": ImageClassification,
}


def task_of(config):
    """The task that the model was made for."""
    names = getattr(config, "architectures", None) or []
    for name in names[:1]:
        for ending, task in ARCHITECTURES.items():
            if name.endswith(ending):
                return task
    raise ValueError(
        f"config.json names the classes {names}, which do not say a task: write one under [python.settings] "
        f'in model.toml, task = "…": {", ".join(TASKS)}'
    )


def token_limit(tokenizer, config, settings):
    """The most tokens of a text; none: any number."""
    if "max_length" in settings:
        return whole(settings, "max_length", 1)
    if tokenizer.model_max_length < NO_LIMIT:
        return tokenizer.model_max_length
    return getattr(config, "max_position_embeddings", None)


def best(answers):
    """Label and score of each answer; pipelines wrap the best one in a list of its own."""
    rows = [answer[0] if isinstance(answer, list) else answer for answer in answers]
    labels = np.array([row["label"] for row in rows], dtype=object)
    return {"label": labels, "score": np.array([row["score"] for row in rows], dtype=np.float32)}


def one_of(settings, name, values):
    """A setting's value; the first where it is not set."""
    value = settings.get(name, values[0])
    if value not in values:
        raise ValueError(f"[python.settings] {name} = {value!r}: expected {' or '.join(map(repr, values))}")
    return value


def whole(settings, name, default):
    value = settings.get(name, str(default))
    if not value.isdigit() or int(value) < 1:
        raise ValueError(f"[python.settings] {name} = {value!r}: expected a whole number of at least 1, as a text")
    return int(value)


def needed(module, package):
    """The module, or what to do where it is missing."""
    try:
        return __import__(module, fromlist=["_"])
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        message = f"the package {package} is not installed in this environment: pip install {package}"
        raise ModuleNotFoundError(message, name=error.name) from None
