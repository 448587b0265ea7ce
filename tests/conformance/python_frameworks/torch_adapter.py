"""The adapter for PyTorch, against the modules themselves."""

import numpy as np
import pytest
from python_adapters import ask, framework, load

torch = framework("torch")
X = np.random.default_rng(7).normal(size=(6, 4)).astype("float32")
DECLARED = {"x": ("FP32", [-1, 4])}


class Net(torch.nn.Module):
    """Dropout and batch norm tell whether the module was put to evaluation."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        )

    def forward(self, x):
        return self.layers(x)


class Pair(torch.nn.Module):
    """Two inputs of different types, and two outputs."""

    def forward(self, x, ids):
        return x * 2, ids + x.sum(1).long()


class Named(torch.nn.Module):
    """A dict, and a length that follows the input's."""

    def forward(self, x):
        return {"sum": x.sum(1), "twice": x * 2}


@pytest.fixture
def net():
    torch.manual_seed(3)
    return Net().eval()


def exported(module, path, *arguments):
    rows = torch.export.Dim("rows")
    shapes = tuple({0: rows} for _ in arguments)
    torch.export.save(torch.export.export(module, arguments, dynamic_shapes=shapes), path)
    return path


def expected(net):
    with torch.inference_mode():
        return net(torch.from_numpy(X)).numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_takes_what_model_toml_says(net, tmp_path, how):
    scripted = torch.jit.script(net.train()) if how == "script" else torch.jit.trace(net, torch.zeros(2, 4))
    scripted.save(tmp_path / "model.pt")
    adapter = load("torch", tmp_path / "model.pt", inputs=DECLARED)
    assert adapter.outputs == {"output": ("FP32", [-1, 3])}
    np.testing.assert_allclose(ask(adapter, 1e-6, x=X)["output"], expected(net.eval()), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_without_declaration_is_told_what_to_write(tmp_path):
    torch.jit.script(Pair()).save(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r'top of model.toml: input = \[\{ name = "x", dtype = "FP32".*name = "ids"'):
        load("torch", tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"declares the inputs \['x'\], `forward` takes \['x', 'ids'\]"):
        load("torch", tmp_path / "model.pt", inputs=DECLARED)
    adapter = load("torch", tmp_path / "model.pt", inputs={**DECLARED, "ids": ("INT64", [-1])})
    assert adapter.outputs == {"output_0": ("FP32", [-1, 4]), "output_1": ("INT64", [-1])}
    np.testing.assert_array_equal(ask(adapter, x=X, ids=range(6))["output_0"], X * 2)


def test_an_exported_program_says_what_it_takes(net, tmp_path):
    adapter = load("torch", exported(net, tmp_path / "model.pt2", torch.zeros(2, 4)))
    assert adapter.inputs == DECLARED
    assert adapter.outputs == {"output": ("FP32", [-1, 3])}
    # Alone, rows go through other kernels of the library: the last bits differ.
    np.testing.assert_allclose(ask(adapter, 1e-5, x=X)["output"], expected(net), rtol=1e-5, atol=1e-6)


def test_an_exported_program_may_have_several_of_both(tmp_path):
    path = exported(Pair(), tmp_path / "model.pt2", torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))
    adapter = load("torch", path, outputs={"doubled": ("FP64", [-1, 4]), "moved": ("INT64", [-1])})
    assert adapter.inputs == {"x": ("FP32", [-1, 4]), "ids": ("INT64", [-1])}
    answer = ask(adapter, x=X, ids=range(6))
    np.testing.assert_array_equal(answer["doubled"], (X * 2).astype("float64"))
    np.testing.assert_array_equal(answer["moved"], np.arange(6) + X.sum(1).astype("int64"))


@pytest.mark.filterwarnings("ignore")
def test_names_and_free_lengths_come_from_a_trial(tmp_path):
    torch.jit.script(Named()).save(tmp_path / "model.pt")
    adapter = load("torch", tmp_path / "model.pt", inputs={"x": ("FP32", [-1, -1])})
    assert adapter.outputs == {"sum": ("FP32", [-1]), "twice": ("FP32", [-1, -1])}
    np.testing.assert_array_equal(ask(adapter, x=X)["twice"], X * 2)


@pytest.mark.filterwarnings("ignore")
def test_bfloat16_comes_as_its_bits(tmp_path):
    torch.jit.script(Named()).save(tmp_path / "model.pt")
    adapter = load("torch", tmp_path / "model.pt", inputs={"x": ("BF16", [-1, 2])})
    assert adapter.outputs["twice"] == ("BF16", [-1, 2])
    one, two = 0x3F80, 0x4000
    assert adapter.predict({"x": np.array([[one, two]], "<u2")})["twice"].tolist() == [[two, 0x4080]]


def test_a_pickle_is_read_only_where_that_was_asked_for(net, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(net, path)
    for settings in ({}, {"unpickle": "yes"}):
        with pytest.raises(ValueError, match=r'can run any code.*unpickle = "true" under \[python.settings\]'):
            load("torch", path, inputs=DECLARED, settings=settings)
    adapter = load("torch", path, inputs=DECLARED, settings={"unpickle": "true"})
    np.testing.assert_allclose(ask(adapter, 1e-5, x=X)["output"], expected(net), rtol=1e-5, atol=1e-6)


def test_weights_alone_are_no_model(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds a OrderedDict, such as the weights of a model"):
        load("torch", tmp_path / "model.pt", inputs=DECLARED, settings={"unpickle": "true"})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": {"x": ("STRING", [-1])}}, "input `x` is STRING; PyTorch takes BOOL"),
        ({"inputs": {"x": ("FP32", [-1, 5])}}, "fails on zeros .*If the inputs in model.toml are right"),
        ({"inputs": DECLARED, "device": "cuda:99"}, "cuda:99"),
    ],
)
def test_what_does_not_fit_is_said(net, tmp_path, options, message):
    torch.jit.script(net).save(tmp_path / "model.pt")
    with pytest.raises((ValueError, RuntimeError), match=message):
        load("torch", tmp_path / "model.pt", **options)


@pytest.mark.filterwarnings("ignore")
def test_threads_are_those_of_the_worker(net, tmp_path):
    torch.jit.script(net).save(tmp_path / "model.pt")
    for threads in (2, 1):
        load("torch", tmp_path / "model.pt", inputs=DECLARED, threads=threads)
        assert torch.get_num_threads() == threads
