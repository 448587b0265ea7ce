"""Picture models against Pillow and numpy: what the graph gets, and what is answered.

One graph hands back the tensor that it was given, as scores of as many classes; the other
classifies with a few random weights. The pictures are made by pictures.py.
"""

import io
import struct
import subprocess
import zlib
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pictures
import pytest
import tritonclient.http as triton_http
from harness import DEMO, Server
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps

FILTERS = {
    "nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS,
}


@dataclass
class Case:
    """What [image] says, and how the graph takes pictures."""

    shape: list[int]
    resize: int | list[int] | str | None = None
    crop: list[int] | None = None
    filter: str = "bilinear"
    colours: str = "rgb"
    rescale: float = 1 / 255
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])
    invert: bool = False
    dtype: int = TensorProto.FLOAT

    @property
    def is_planes(self) -> bool:
        return len(self.shape) == 3 and self.shape[0] in (1, 3)

    @property
    def is_float(self) -> bool:
        return self.dtype in (TensorProto.FLOAT, TensorProto.FLOAT16)

    def toml(self) -> str:
        said = {
            "resize": self.resize, "crop": self.crop, "filter": self.filter, "colours": self.colours,
            "rescale": self.rescale, "mean": self.mean, "std": self.std, "invert": self.invert,
            "scores": "as-is", "top_k": int(np.prod(self.shape)),
        }
        lines = [f"{key} = {toml(value)}" for key, value in said.items() if value is not None]
        return 'task = "image-classification"\n[image]\n' + "\n".join(lines) + "\n"

    def reference(self, data: bytes) -> np.ndarray:
        """The tensor as Pillow and torchvision make it."""
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        image = image.convert("L" if self.colours == "grey" else "RGB")
        width, height = image.size
        if isinstance(self.resize, int):
            short, long = sorted((width, height))
            scaled = int(self.resize * long / short)
            size = (self.resize, scaled) if width <= height else (scaled, self.resize)
            image = resized(image, size, FILTERS[self.filter])
        elif isinstance(self.resize, list):
            image = resized(image, (self.resize[1], self.resize[0]), FILTERS[self.filter])
        if self.crop:
            image = centre(image, *self.crop)
        tensor = np.asarray(image).astype(np.float32).reshape(image.size[1], image.size[0], -1)
        if self.invert:
            tensor = 255 - tensor
        if self.colours == "bgr":
            tensor = tensor[..., ::-1]
        tensor = (tensor * np.float32(self.rescale) - np.float32(self.mean)) / np.float32(self.std)
        return tensor.transpose(2, 0, 1) if self.is_planes else tensor

    def tones(self, tensor: np.ndarray) -> np.ndarray:
        """Back to a scale from 0 to 255, in which differences are measured."""
        std = np.float32(self.std) / np.float32(self.rescale)
        return tensor * (std.reshape(-1, 1, 1) if self.is_planes else std)


def toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def resized(image: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """Across, then down, as Pillow up to 12 always did; 13 turns that round where it is faster."""
    if how != Image.Resampling.NEAREST:
        image = image.resize((size[0], image.height), how)
    return image.resize(size, how)


def centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """torchvision.transforms.functional.center_crop for Pillow images."""
    if width > image.width or height > image.height:
        left, top = max(0, (width - image.width) // 2), max(0, (height - image.height) // 2)
        right = max(0, (width - image.width + 1) // 2)
        bottom = max(0, (height - image.height + 1) // 2)
        image = ImageOps.expand(image, (left, top, right, bottom), fill=0)
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


CASES = {
    "imagenet": Case(
        [3, 56, 56], resize=64, crop=[56, 56], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    ),
    "straight": Case([40, 56, 3], resize=None, filter="lanczos", mean=[0.5], std=[0.5]),
    "grey": Case([1, 40, 56], resize=[40, 56], filter="bicubic", colours="grey"),
    "larger": Case([3, 300, 20], resize=310, crop=[300, 20], filter="bicubic"),
    "inverted": Case(
        [48, 64, 3], resize=[48, 64], filter="lanczos", colours="bgr", invert=True, mean=[0.1, 0.2, 0.3],
        std=[0.5, 0.25, 1.0],
    ),
    "bytes": Case([3, 80, 80], resize="keep", crop=[80, 80], rescale=1.0, dtype=TensorProto.UINT8),
    "nearest": Case([3, 60, 60], resize=75, crop=[60, 60], filter="nearest", rescale=1.0),
    "half": Case([1, 32, 32], resize=[32, 32], colours="grey", dtype=TensorProto.FLOAT16),
    "flat": Case([784], resize=[28, 28], colours="grey"),
}
CASES["flat"].reference = lambda data: Case([28, 28, 1], resize=[28, 28], colours="grey").reference(data)
# "Straight to what the graph takes" is the default of `resize`.
STRAIGHT = Case([40, 56, 3], resize=[40, 56], filter="lanczos", mean=[0.5], std=[0.5])
CASES["straight"].reference = STRAIGHT.reference


def save(path, case: Case, nodes: list, outputs: int, constants: dict) -> None:
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("pixels", case.dtype, ["n", *case.shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def mirror(folder, case: Case) -> None:
    """A graph whose scores are the tensor that it got."""
    pixels = int(np.prod(case.shape))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "row"], ["scores"]),
    ]
    save(folder / "model.onnx", case, nodes, pixels, {"row": np.array([-1, pixels], np.int64)})
    (folder / "model.toml").write_text(case.toml())


def classifier(folder, case: Case, n_classes: int) -> None:
    rng = np.random.default_rng(pictures.SEED)
    pixels = int(np.prod(case.shape))
    weights = rng.normal(0, 0.02, (pixels, n_classes)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["pixels", "row"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    constants = {"row": np.array([-1, pixels], np.int64), "weights": weights}
    save(folder / "model.onnx", case, nodes, n_classes, constants)
    labels = [f"class {idx}" for idx in range(n_classes)]
    said = case.toml().replace('"as-is"', '"softmax"').replace(f"top_k = {pixels}", "top_k = 3")
    (folder / "model.toml").write_text(f"labels = {labels}\n{said}".replace("'", '"'))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    made = pictures.make()
    assert len(made) == 50
    return made


@pytest.fixture(scope="module")
def server(start, tmp_path_factory) -> Server:
    root = tmp_path_factory.mktemp("pictures")
    for name, case in CASES.items():
        mirror(root / name, case)
    classifier(root / "classes", CASES["imagenet"], 10)
    return start(root, DEMO / "digit-pictures")


def ask(server: Server, model: str, data: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores, over the inference protocol."""
    with triton_http.InferenceServerClient(server.http) as client:
        tensor = triton_http.InferInput("image", [len(data)], "BYTES")
        tensor.set_data_from_numpy(np.array(data, dtype=object))
        answer = client.infer(model, [tensor])
        return answer.as_numpy("label"), answer.as_numpy("score")


def tensor_of(server: Server, model: str, data: bytes) -> np.ndarray:
    """The tensor that a mirror got: classes are called by their numbers."""
    labels, scores = ask(server, model, [data])
    flat = np.empty(scores.shape[1], np.float32)
    flat[labels[0].astype(int)] = scores[0]
    return flat


@pytest.mark.parametrize("model", CASES)
def test_tensors_are_those_of_pillow(server, files, model):
    case = CASES[model]
    problems = []
    for name, data in files.items():
        expected = case.reference(data)
        got = tensor_of(server, model, data).reshape(expected.shape)
        difference = np.abs(case.tones(got) - case.tones(expected))
        exact = name.endswith(".png") or "lossless" in name or name == "exif-8.webp"
        # In steps of 1/255; halves have 11 bits.
        slack = 0.13 if case.dtype == TensorProto.FLOAT16 else 0.01
        if not exact:
            fine = difference.mean() <= 1
        elif case.filter in ("nearest", "bilinear"):
            fine = difference.max() <= 1 + slack
        else:
            # Weights below zero add up what is rounded between the passes: two steps in one of 1000.
            fine = difference.max() <= 2 + slack and np.quantile(difference, 0.999) <= 1 + slack
        if not fine:
            problems.append(f"{name}: {difference.max():.3f}, on average {difference.mean():.3f}")
    assert not problems, "\n".join(problems)


def test_classes_are_those_of_the_reference(server, files):
    case = CASES["imagenet"]
    folder = server.command[2]
    session = onnxruntime.InferenceSession(f"{folder}/classes/model.onnx", providers=["CPUExecutionProvider"])
    labels, scores = ask(server, "classes", list(files.values()))
    assert labels.shape == scores.shape == (50, 3)
    for (name, data), got, score in zip(files.items(), labels, scores, strict=True):
        logits = session.run(None, {"pixels": case.reference(data)[None]})[0][0]
        powers = np.exp(logits - logits.max())
        expected = powers / powers.sum()
        assert got[0] == f"class {logits.argmax()}".encode(), name
        assert abs(score[0] - expected.max()) < 0.03, name


@pytest.mark.parametrize(("data", "text"), [
    (b"GIF89a" + bytes(20), "row 1: expected a picture as JPEG, PNG or WebP, but it is a GIF"),
    (b"", "it is empty"),
    (b"<html>", "XML or HTML"),
])
def test_what_is_no_picture_is_refused_by_name(server, files, data, text):
    with pytest.raises(triton_http.InferenceServerException, match=text):
        ask(server, "classes", [files["photo.jpg"], data])


@pytest.mark.parametrize("name", ["photo.jpg", "progressive-420.jpg", "large.png", "lossy.webp", "lossless.webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_breaks_off_is_refused(server, files, name, share):
    data = files[name]
    with pytest.raises(triton_http.InferenceServerException, match="input 'image', row 0"):
        ask(server, "classes", [data[: int(len(data) * share)]])


def test_bombs_are_refused_before_they_are_decoded(server, files):
    """60,000 x 60,000 pixels in a kilobyte, and a JPEG whose header says 30,000 x 30,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(900_000), 9))
    assert len(png) < 1100
    jpeg = bytearray(files["photo.jpg"])
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 30_000, 30_000)
    before = server.rss_kib()
    for data in (png, bytes(jpeg)):
        with pytest.raises(triton_http.InferenceServerException, match="at most 64 million"):
            ask(server, "classes", [data])
    assert server.rss_kib() - before < 32 * 1024


def test_a_digit_posted_as_a_file_is_read(server):
    """The command that `salver demo` shows."""
    for digit in range(10):
        file = DEMO / "digit-pictures" / f"{digit}.png"
        url = f"{server.url}/models/digit-pictures/predict"
        command = ["curl", "-sS", "-H", "Content-Type: image/png", "--data-binary", f"@{file}", url]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert f'"label":"{digit}"' in said.stdout.replace(" ", ""), said.stdout
