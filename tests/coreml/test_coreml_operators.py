"""A representative part of coremltools' own operator tests; the whole: benchmarks/coreml_operator_tests.py."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from mil_building import Builder

from stages.coreml import dtypes, open_program
from stages.coreml.errors import Mismatch

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


def local_response_norm(tmp_path, x, **settings):
    b = Builder()
    b.input("x", dtypes.FP32, x.shape)
    y = b.op("local_response_norm", x.shape, x="x", **{key: b.const(value) for key, value in settings.items()})
    return open_program(b.save(tmp_path, y)).run({"x": x})[y]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_local_response_norm_is_that_of_torch(tmp_path, size):
    import torch

    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    found = local_response_norm(tmp_path, x, size=size, alpha=0.5, beta=0.9, k=2.0)
    wanted = torch.nn.functional.local_response_norm(torch.tensor(x), size, 0.5, 0.9, 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_local_response_norm_over_no_channels_is_refused(tmp_path):
    with pytest.raises(Mismatch, match="0 channels"):
        local_response_norm(tmp_path, np.ones((1, 2, 3), np.float32), size=0)


def fill_of_unknown_rank(tmp_path):
    """A `fill` whose rank is the length of the input, as coremltools declares it; the last dimension is 3."""
    b = Builder()
    b.input("shape", dtypes.INT32, (None,), shapes=[(0,), (1,), (2,), (3,)])
    y = b.op("fill", (None, 3), shape="shape", value=b.const(0.5))
    b.block.operations[-1].outputs[0].type.tensorType.dimensions[0].unknown.variadic = True
    return b.save(tmp_path, y)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3)])
def test_a_variadic_dimension_stands_for_any_number_of_them(tmp_path, shape):
    (found,) = open_program(fill_of_unknown_rank(tmp_path)).run({"shape": np.array(shape, np.int32)}).values()
    np.testing.assert_array_equal(found, np.full(shape, 0.5, np.float32))


@pytest.mark.parametrize("shape", [(), (2, 4)])
def test_what_stands_beside_a_variadic_dimension_is_checked(tmp_path, shape):
    with pytest.raises(Mismatch, match=r"expected 'fp32\[\.\.\., 3\]'"):
        open_program(fill_of_unknown_rank(tmp_path)).run({"shape": np.array(shape, np.int32)})
