"""The unmodified `openai` client: embeddings, models, errors."""

import base64
import json

import numpy as np
import openai
import pytest
from harness import DEMO
from onnx import TensorProto, helper, numpy_helper

# One vector of each token; that of a text is their mean.
TABLE = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.25], [0.0, 0.0, 0.0]], np.float32)
WORDS = {"[UNK]": 0, "hello": 1, "world": 2, "[PAD]": 3}


def write_model(folder):
    """A sentence encoder of four words."""
    ids, mask = (helper.make_tensor_value_info(n, TensorProto.INT64, [None, None]) for n in ("input_ids", "attention_mask"))
    states = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [None, None, 3])
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph([node], "g", [ids, mask], [states], [numpy_helper.from_array(TABLE, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "added_tokens": [], "normalizer": None,
        "padding": {
            "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 3, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    }))
    (folder / "model.toml").write_text(
        'task = "text-embedding"\n[text]\ntokenizer = "tokenizer.json"\npooling = "mean"\nnormalize = false\n'
    )
    return folder


def vector(text):
    return TABLE[[WORDS.get(word, 0) for word in text.split()]].mean(axis=0)


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    return start(write_model(tmp_path_factory.mktemp("openai") / "words"), DEMO / "iris")


@pytest.fixture
def client(server):
    host, port = server.listeners["http"]
    with openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="unused", max_retries=0) as client:
        yield client


TEXTS = ["hello", "hello world", "world world hello", "unknown"]


@pytest.mark.parametrize("encoding_format", [openai.NOT_GIVEN, "float", "base64"])
def test_the_vectors_are_those_of_the_model(client, encoding_format):
    answer = client.embeddings.create(model="words", input=TEXTS, encoding_format=encoding_format)
    assert (answer.object, answer.model) == ("list", "words")
    assert [entry.index for entry in answer.data] == [0, 1, 2, 3]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7
    for text, entry in zip(TEXTS, answer.data, strict=True):
        coded = entry.embedding
        if isinstance(coded, str):  # asked for: the client leaves it as it is
            coded = np.frombuffer(base64.b64decode(coded), "<f4")
        np.testing.assert_allclose(coded, vector(text), rtol=1e-6)


def test_one_text_is_a_list_of_one(client):
    answer = client.embeddings.create(model="words", input="hello", dimensions=3, user="u")
    assert len(answer.data) == 1
    np.testing.assert_allclose(answer.data[0].embedding, vector("hello"), rtol=1e-6)


def test_as_many_texts_as_openai_takes(client):
    answer = client.embeddings.create(model="words", input=["hello"] * 2048)
    assert len(answer.data) == 2048
    with pytest.raises(openai.BadRequestError, match="more than 2048 texts"):
        client.embeddings.create(model="words", input=["hello"] * 2049)


@pytest.mark.parametrize(
    ("change", "error", "param", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model", "model_not_found"),
        ({"model": "iris"}, openai.BadRequestError, "model", None),
        ({"input": [1, 2, 3]}, openai.BadRequestError, "input", None),
        ({"input": [[1, 2], [3]]}, openai.BadRequestError, "input", None),
        ({"input": []}, openai.BadRequestError, "input", None),
        ({"dimensions": 2}, openai.BadRequestError, "dimensions", None),
        ({"encoding_format": "hex"}, openai.BadRequestError, "encoding_format", None),
    ],
)
def test_errors_are_what_the_client_knows(client, change, error, param, code):
    with pytest.raises(error) as refused:
        client.embeddings.create(**({"model": "words", "input": "hello"} | change))
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"


def test_models_are_listed(client, server):
    listed = {model.id: model for model in client.models.list()}
    assert sorted(listed) == ["iris", "words"]
    assert all(model.object == "model" and model.owned_by == "salver" for model in listed.values())
    assert client.models.retrieve("words").id == "words"
    assert client.models.retrieve("iris").created == listed["iris"].created
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    # The same path is TF Serving's and KServe's.
    status = server.get("/v1/models/words").json()
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    assert status["ready"] is True
    assert server.get("/v1/models").json()["models"] == ["iris", "words"]
