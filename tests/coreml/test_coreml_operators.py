"""A representative part of coremltools' own operator tests; the whole: benchmarks/coreml_operator_tests.py."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.target
PARTS = {
    "iOS18/test_transformers.py": "TestScaledDotProductAttention and not stress",
    "iOS18/test_states.py": "",
    "iOS14/test_linear.py": "smoke",
    "iOS14/test_normalization.py": "LayerNorm and smoke",
    "iOS14/test_elementwise_unary.py": "smoke",
}


def test_apples_own_operator_tests_pass(tmp_path):
    outcomes = {}
    for index, (part, pattern) in enumerate(PARTS.items()):
        tally = tmp_path / f"{index}.json"
        command = [sys.executable, "-m", "benchmarks.coreml_operator_tests", part, "--", "--precision", "fp32"]
        command += ["-W", "ignore", *(["-k", pattern] if pattern else [])]
        environment = {**os.environ, "TINSMITH_TALLY": str(tally), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
        found = json.loads(tally.read_text())
        assert found["failures"] == [], done.stdout[-2000:]
        for outcome, count in found["outcomes"].items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert outcomes["passed"] > 100
