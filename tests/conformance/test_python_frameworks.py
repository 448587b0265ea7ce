"""Runs the tests of adapters for large frameworks, each in a process and, if need be, an interpreter of its own.

PyTorch and TensorFlow end a process that loads both, and the conformance environment has neither:
`SALVER_TEST_FRAMEWORKS` names an interpreter that has pytest, pytest-timeout, numpy and some of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INTERPRETER = os.environ.get("SALVER_TEST_FRAMEWORKS") or sys.executable
NEEDS = {
    "xgboost": ["xgboost", "sklearn"], "torch": ["torch"], "tensorflow": ["tensorflow"],
    "transformers": ["transformers", "torch", "PIL"],
}  # fmt: skip


def missing(name: str) -> None:
    """Skips loudly what the interpreter does not have, or fails where SALVER_REQUIRE_FRAMEWORKS=1."""
    modules = ["pytest", *NEEDS[name]]
    code = f"from importlib.util import find_spec; print(*[name for name in {modules} if find_spec(name) is None])"
    run = subprocess.run([INTERPRETER, "-c", code], capture_output=True, text=True, check=True)
    if not run.stdout.strip():
        return
    reason = f"{INTERPRETER} has no {run.stdout.strip()}; SALVER_TEST_FRAMEWORKS may name another"
    if os.environ.get("SALVER_REQUIRE_FRAMEWORKS") == "1":
        pytest.fail(f"{name} is required here (SALVER_REQUIRE_FRAMEWORKS=1): {reason}", pytrace=False)
    pytest.skip(f"SKIPPED: {name}: {reason}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NEEDS)
def test_adapter(name):
    missing(name)
    tests = HERE / "python_frameworks" / f"{name}_adapter.py"
    command = [INTERPRETER, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-c", str(HERE / "pytest.ini")]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "SALVER_REQUIRE_FRAMEWORKS": "1"}
    run = subprocess.run([*command, str(tests)], cwd=HERE, env=environment, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
