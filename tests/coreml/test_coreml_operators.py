"""A representative part of coremltools' own operator tests; the whole: benchmarks/coreml_operator_tests.py."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.target
PARTS = ("iOS14/test_elementwise_unary.py", "iOS14/test_linear.py", "iOS14/test_reduction.py", "iOS18/test_states.py")


def test_apples_own_operator_tests_pass(tmp_path):
    tally = tmp_path / "tally.json"
    command = [sys.executable, "-m", "benchmarks.coreml_operator_tests", *PARTS, "--", "--precision", "fp32"]
    environment = {**os.environ, "TINSMITH_TALLY": str(tally), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "-W", "ignore"], capture_output=True, text=True, env=environment, timeout=280)
    found = json.loads(tally.read_text())
    assert found["failures"] == [], done.stdout[-2000:]
    assert found["outcomes"]["passed"] > 120
    assert found["predictions"] > 60
