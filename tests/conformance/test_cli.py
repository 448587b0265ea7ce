"""The commands beside `serve`, as a person at a shell meets them."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios

import pytest
import texts
from harness import BINARY, DEMO, MODELS, PATIENCE_S, ort_library


def salver(*args, code=0, cwd=None, **env) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SALVER_")}
    environment.setdefault("ORT_DYLIB_PATH", str(ort_library() or ""))
    done = subprocess.run(
        [str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=PATIENCE_S,
        cwd=cwd, env=environment | env, check=False,
    )
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "panicked" not in done.stderr
    return done


def test_the_demo_predicts_all_held_out_rows_and_ends(tmp_path):
    out = salver("demo", "--exit", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", cwd=tmp_path).stdout
    for name in ("iris", "digits"):
        text = (DEMO / name / "model.toml").read_text()
        accuracy = float(text.rsplit("accuracy =", 1)[1])
        forms = {f"{accuracy:.{n}f}" for n in (2, 3, 4)} | {f"{100 * accuracy:.{n}f}" for n in (0, 1, 2)}
        assert name in out
        assert any(form in out for form in forms), f"no accuracy of {accuracy} in\n{out}"
    assert "setosa" in out


def test_inspect_shows_inputs_and_outputs():
    out = salver("inspect", DEMO / "iris" / "model.onnx").stdout
    for word in ("X", "probabilities", "MatMul", "17", "curl"):
        assert word in out
    assert "probabilities" in json.dumps(json.loads(salver("inspect", DEMO / "iris", "--json").stdout))


def test_the_demo_answers_for_sentences_where_the_encoder_is_there(tmp_path):
    listen = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    assert "Sentences too: fetch it with: python examples/text/encoder.py" in salver("demo", "--exit", *listen, cwd=tmp_path).stdout
    out = salver("demo", "--exit", "--encoder", texts.minilm(), *listen, cwd=tmp_path).stdout
    labels = re.findall(r"\. +([a-z]+) +right ", out)
    assert labels == ["sports", "politics", "cooking", "weather", "technology"], out
    said = salver("demo", "--exit", "--encoder", tmp_path, *listen, cwd=tmp_path, code=1).stderr
    assert "model.onnx is not there" in said


def test_predict_needs_no_server_for_a_path_and_asks_one_for_a_name(demo, tmp_path):
    row = json.dumps([[5.1, 3.5, 1.4, 0.2]])
    assert "setosa" in salver("predict", DEMO / "iris", "--input", row, cwd=tmp_path).stdout
    assert "setosa" in salver("predict", "iris", "--input", row, "--server", demo.url).stdout
    assert "nobody" in salver("predict", "nobody", "--input", row, "--server", demo.url, code=None).stderr


def test_models_lists_what_a_server_serves(triton):
    out = salver("models", "--server", triton.url).stdout
    assert "add_sub_fp32" in out and "two_versions" in out
    assert json.loads(salver("models", "--server", triton.url, "--json").stdout)


def test_check_says_which_models_do_not_load_and_why():
    salver("check", MODELS / "triton")
    done = salver("check", MODELS / "broken" / "triton", code=None)
    assert done.returncode != 0
    for text in ("unknown_field", "max_batch_sise", "tensorrt_plan", "INPUT1"):
        assert text in done.stdout + done.stderr


def test_config_tells_where_each_value_came_from(tmp_path):
    (tmp_path / "salver.toml").write_text('http = "127.0.0.1:1111"\ngrpc = "127.0.0.1:2222"\nslow_ms = 77\n')
    out = salver(
        "config", "--json", "--config", tmp_path / "salver.toml", "--http", "127.0.0.1:3333",
        SALVER_GRPC="127.0.0.1:4444",
    ).stdout
    json.loads(out)
    assert "3333" in out and "4444" in out and "77" in out
    assert "1111" not in out and "2222" not in out


@pytest.mark.parametrize("line", ["htpp = '127.0.0.1:1'", "http = 5", "http = "])
def test_a_config_file_with_a_mistake_is_refused_by_name(tmp_path, line):
    (tmp_path / "salver.toml").write_text(line + "\n")
    done = salver("config", "--config", tmp_path / "salver.toml", code=None)
    assert done.returncode != 0
    assert "salver.toml" in done.stderr


def test_an_address_that_others_can_reach_needs_a_word(tmp_path):
    done = salver("serve", DEMO / "iris", "--http", "0.0.0.0:0", "--grpc", "off", cwd=tmp_path, code=None)
    assert done.returncode != 0
    assert "--insecure" in done.stderr


def test_a_path_that_is_not_there_is_named(tmp_path):
    done = salver("serve", tmp_path / "no_such_model.onnx", "--http", "127.0.0.1:0", "--grpc", "off",
                  cwd=tmp_path, code=None)
    assert done.returncode != 0
    assert "no_such_model.onnx" in done.stderr


def test_without_arguments_it_explains_itself():
    assert "salver demo" in salver(code=None).stderr + salver("--help").stdout


def test_top_draws_on_a_terminal_and_puts_it_back(demo):
    """On a screen of its own, with keys that need no Enter; what was set before is set after."""
    ours, theirs = pty.openpty()
    # Without a size, a terminal has no room to draw on.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 120, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [BINARY, "top", "--server", demo.url, "--interval", "100ms"], stdin=theirs, stdout=theirs, stderr=theirs,
    )
    shown = b""

    def read_until(*wanted: bytes):
        nonlocal shown
        while not all(part in shown for part in wanted):
            assert select.select([ours], [], [], PATIENCE_S)[0], f"never {wanted} in {shown}"
            shown += os.read(ours, 4096)

    try:
        read_until(b"\x1b[?1049h", b"sorted by rate", b"iris", b"digits", b"req/s")
        assert not termios.tcgetattr(theirs)[3] & (termios.ICANON | termios.ECHO)
        os.write(ours, b"n")
        read_until(b"sorted by name")
        os.write(ours, b"q")
        read_until(b"\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
