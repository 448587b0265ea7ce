"""The adapter for transformers, against the models themselves.

The models are tiny and untrained: what is compared is that each text or picture gets the answer that
it gets alone, with the library's own calls. Their tokenizer is made here; nothing is fetched.
"""

import io
import json

import numpy as np
import pytest
from python_adapters import InvalidInput, ask, framework, load

torch = framework("torch")
transformers = framework("transformers")
tokenizers = framework("tokenizers")
Image = framework("PIL.Image")

WORDS = "[PAD] [UNK] [CLS] [SEP] a b c good bad film was it very".split()
TEXTS = ["good film", "bad", "it was very very bad", "a b c a b c a b c unknown", ""]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": len(WORDS)}


def tokenizer(limit: int = 8, ends: bool = True):
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: idx for idx, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if ends:
        around = [("[CLS]", 2), ("[SEP]", 3)]
        words.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=around)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=limit, **names)


@pytest.fixture
def saved(tmp_path):
    """saved(model): the folder that transformers makes of it and the tokenizer."""

    def save(model, limit: int = 8, ends: bool = True):
        torch.manual_seed(5)
        model.apply(lambda part: part.reset_parameters() if isinstance(part, torch.nn.Linear) else None)
        model.save_pretrained(tmp_path)
        tokenizer(limit, ends).save_pretrained(tmp_path)
        return tmp_path

    return save


def classifier():
    names = {0: "neg", 1: "pos"}
    config = transformers.BertConfig(**SMALL, max_position_embeddings=8, id2label=names, label2id={"neg": 0, "pos": 1})
    return transformers.BertForSequenceClassification(config)


def alone(folder, text, limit=8):
    """The class of one text, computed step by step."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        tokens = tokenizer(limit)(text, truncation=True, return_tensors="pt")
        scores = model(**tokens).logits.softmax(-1)[0]
    return model.config.id2label[int(scores.argmax())], float(scores.max())


# Without a limit of its own the tokenizer's is the model's number of places.
@pytest.mark.parametrize("limit", [8, 10**30])
def test_each_text_gets_its_most_likely_class(saved, limit):
    folder = saved(classifier(), limit)
    adapter = load("transformers", folder)
    assert (adapter.inputs, list(adapter.outputs)) == ({"text": ("STRING", [-1])}, ["label", "score"])
    answer = ask(adapter, 1e-5, text=TEXTS)
    expected = [alone(folder, text) for text in TEXTS]
    assert list(answer["label"]) == [label for label, _ in expected]
    np.testing.assert_allclose(answer["score"], [score for _, score in expected], rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"pooling": "cls", "normalize": "true"}])
def test_a_vector_is_made_of_the_tokens_of_its_text_alone(saved, settings):
    folder = saved(transformers.BertModel(transformers.BertConfig(**SMALL)))
    adapter = load("transformers", folder, settings=settings)
    assert adapter.outputs == {"embedding": ("FP32", [-1, 16])}
    answer = ask(adapter, 1e-5, text=TEXTS)["embedding"]
    model = transformers.BertModel.from_pretrained(folder).eval()
    for text, vector in zip(TEXTS, answer, strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer()(text, truncation=True, return_tensors="pt")).last_hidden_state[0]
        expected = (hidden[0] / hidden[0].norm() if settings else hidden.mean(0)).numpy()
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-6)


def test_texts_of_different_lengths_are_continued_as_if_alone(saved):
    config = transformers.GPT2Config(vocab_size=len(WORDS), n_positions=16, n_embd=16, n_layer=2, n_head=2, eos_token_id=3, bos_token_id=2)
    folder = saved(transformers.GPT2LMHeadModel(config), 16, ends=False)
    adapter = load("transformers", folder, settings={"max_new_tokens": "4"})
    answer = ask(adapter, text=["good film", "it was very very bad", "a b c " * 10])["text"]
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokens = tokenizer(16, ends=False)("good film", return_tensors="pt")
    made = model.generate(tokens["input_ids"], attention_mask=tokens["attention_mask"], max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert answer[0] == tokenizer().decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    assert len(set(answer)) > 1, answer
    with pytest.raises(InvalidInput, match="nothing to continue"):
        adapter.predict({"text": np.array(["good", ""], dtype=object)})


def test_a_model_of_two_halves_rewrites(saved):
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=3,
        decoder_start_token_id=0,
    )  # fmt: skip
    untrained = transformers.T5ForConditionalGeneration(config)
    untrained.generation_config.suppress_tokens = [0, 1, 2, 3]  # It would say nothing else.
    folder = saved(untrained)
    for task in ({}, {"task": "summarization"}, {"task": "translation"}):
        adapter = load("transformers", folder, settings={"max_new_tokens": "4", "prefix": "very ", **task})
        answer = ask(adapter, text=TEXTS)["text"]
        model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
        tokens = tokenizer()(["very " + TEXTS[0]], return_tensors="pt")
        made = model.generate(tokens["input_ids"], max_new_tokens=4, do_sample=False)
        assert answer[0] == tokenizer().decode(made[0], skip_special_tokens=True)
        assert any(answer), answer


def png(seed: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_files_and_broken_ones_are_named(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "car"},
    )  # fmt: skip
    torch.manual_seed(5)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_resize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    adapter = load("transformers", tmp_path)
    assert adapter.inputs == {"image": ("BYTES", [-1])}
    files = [png(1), png(2, "L"), png(3, "RGBA")]
    answer = ask(adapter, 1e-5, image=files)
    pipeline = transformers.pipeline("image-classification", model=str(tmp_path))
    for idx, file in enumerate(files):
        best = pipeline(Image.open(io.BytesIO(file)).convert("RGB"))[0]
        assert answer["label"][idx] == best["label"]
        np.testing.assert_allclose(answer["score"][idx], best["score"], rtol=1e-5)
    for broken in (b"", b"not a picture", files[0][:60]):
        with pytest.raises(InvalidInput, match="`image`, row 1: not a picture"):
            adapter.predict({"image": np.array([files[0], broken], dtype=object)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "fill-mask"}, "the task `fill-mask` is not one that is served here: text-classification, "),
        ({"task": "text-embedding", "pooling": "max"}, "pooling = 'max': expected 'mean' or 'cls'"),
        ({"max_length": "0"}, "max_length = '0': expected a whole number of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(saved, settings, message):
    with pytest.raises(ValueError, match=message):
        load("transformers", saved(classifier()), settings=settings)


def test_a_model_that_does_not_say_its_task_is_asked(saved):
    folder = saved(classifier())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForPreTraining"]}))
    with pytest.raises(ValueError, match=r"\['BertForPreTraining'\], which do not say a task.*\[python.settings\]"):
        load("transformers", folder)
