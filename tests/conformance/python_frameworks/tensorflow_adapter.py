"""The adapter for TensorFlow, against the functions that were saved."""

import numpy as np
import pytest
from python_adapters import ask, framework, load

tf = framework("tensorflow")
# Making the models starts TensorFlow, and then these may not change any more.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.set_visible_devices([], "GPU")


class Model(tf.Module):
    """Three signatures: numbers, texts, and one whose shape is open."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(np.arange(12, dtype="float32").reshape(4, 3))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int64, "n")])
    def serve(self, x, n):
        return {"scores": x @ self.weight, "next": n + 1}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def texts(self, text):
        return {"upper": tf.strings.upper(text), "size": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def open(self, x):
        return {"twice": x * 2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model, folder = Model(), tmp_path_factory.mktemp("tensorflow")
    signatures = {"serving_default": model.serve, "texts": model.texts, "open": model.open}
    tf.saved_model.save(model, str(folder), signatures)
    tf.saved_model.save(model, str(folder / "without"))
    return folder


def test_the_signature_says_what_goes_in_and_out(saved):
    adapter = load("tensorflow", saved)
    assert adapter.inputs == {"x": ("FP32", [-1, 4]), "n": ("INT64", [-1])}
    assert adapter.outputs == {"scores": ("FP32", [-1, 3]), "next": ("INT64", [-1])}
    x = np.random.default_rng(7).normal(size=(5, 4)).astype("float32")
    answer = ask(adapter, 1e-6, x=x, n=range(5))
    np.testing.assert_allclose(answer["scores"], x @ np.arange(12).reshape(4, 3), rtol=1e-5)
    assert answer["next"].tolist() == [1, 2, 3, 4, 5]


def test_another_signature_has_texts_as_bytes(saved):
    adapter = load("tensorflow", saved / "saved_model.pb", settings={"signature": "texts"})
    assert adapter.inputs == {"text": ("BYTES", [-1])}
    answer = ask(adapter, text=[b"a", b"\xff\x00", b""])
    assert answer["upper"].tolist() == [b"A", b"\xff\x00", b""]
    assert answer["size"].tolist() == [1, 2, 0]


def test_texts_may_be_declared_as_str(saved):
    adapter = load("tensorflow", saved, settings={"signature": "texts"}, inputs={"text": ("STRING", [-1])})
    assert adapter.predict({"text": np.array(["ä"], dtype=object)})["size"].tolist() == [2]


def test_declared_outputs_leave_others_out(saved):
    adapter = load("tensorflow", saved, outputs={"next": ("INT64", [-1])})
    assert list(ask(adapter, 1e-6, x=np.zeros((2, 4)), n=[1, 2])) == ["next"]
    with pytest.raises(ValueError, match=r"declares the outputs \['last'\]; the signature has \['"):
        load("tensorflow", saved, outputs={"last": ("INT64", [-1])})


def test_an_open_shape_is_asked_for(saved):
    with pytest.raises(ValueError, match=r'shape of input `x` open.*input = \[\{ name = "x", dtype = "FP32"'):
        load("tensorflow", saved, settings={"signature": "open"})
    adapter = load(
        "tensorflow", saved, settings={"signature": "open"}, inputs={"x": ("FP32", [-1, 2])}, outputs={"twice": ("FP32", [-1, 2])}
    )
    assert ask(adapter, x=[[1, 2]])["twice"].tolist() == [[2, 4]]


@pytest.mark.parametrize(
    ("folder", "settings", "message"),
    [
        (".", {"signature": "train"}, "no signature `train`, but: serving_default, texts, open"),
        ("without", {}, "no signature `serving_default`, but: serve, texts, open|no signature `serving_default`, but: none"),
        ("variables", {}, "there is no saved_model.pb"),
    ],
)
def test_what_is_not_there_is_said(saved, folder, settings, message):
    with pytest.raises(ValueError, match=message):
        load("tensorflow", saved / folder, settings=settings)
