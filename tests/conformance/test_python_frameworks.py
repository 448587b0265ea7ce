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
NEEDS = {"xgboost": "xgboost", "torch": "torch", "tensorflow": "tensorflow", "transformers": "transformers, torch"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NEEDS)
def test_adapter(name):
    finds = [f"import importlib.util as u; assert u.find_spec('{module}'), '{module}'" for module in NEEDS[name].split(", ")]
    found = subprocess.run([INTERPRETER, "-c", "; ".join(["import pytest", *finds])], capture_output=True, text=True)
    if found.returncode != 0:
        reason = f"{INTERPRETER} has no {NEEDS[name]} (or no pytest); SALVER_TEST_FRAMEWORKS may name another"
        if os.environ.get("SALVER_REQUIRE_FRAMEWORKS") == "1":
            pytest.fail(f"{name} is required here (SALVER_REQUIRE_FRAMEWORKS=1): {reason}", pytrace=False)
        pytest.skip(f"SKIPPED: {name}: {reason}")
    tests = HERE / "python_frameworks" / f"{name}_adapter.py"
    command = [INTERPRETER, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-c", str(HERE / "pytest.ini")]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "SALVER_REQUIRE_FRAMEWORKS": "1"}
    run = subprocess.run([*command, str(tests)], cwd=HERE, env=environment, capture_output=True, text=True, timeout=800)
    print(run.stdout)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
