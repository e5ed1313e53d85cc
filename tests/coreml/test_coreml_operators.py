"""A representative part of coremltools' own operator tests; the whole: benchmarks/coreml_operator_tests.py."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from stages.coreml import dtypes, open_program
from stages.coreml.errors import Mismatch, UnsupportedOp
from tests.toys.mil import Builder

pytestmark = pytest.mark.target
PARTS = (
    "iOS14/test_conv.py",
    "iOS14/test_elementwise_unary.py",
    "iOS14/test_linear.py",
    "iOS14/test_reduction.py",
    "iOS16/test_constexpr_ops.py",
    "iOS16/test_tensor_operation.py",
    "iOS17/test_linear.py",
    "iOS17/test_scatter_gather.py",
    "iOS18/test_states.py",
    "iOS18/test_transformers.py",
)


def test_apples_own_operator_tests_pass(tmp_path):
    tally = tmp_path / "tally.json"
    command = [sys.executable, "-m", "benchmarks.coreml_operator_tests", *PARTS, "--", "--precision", "fp32"]
    environment = {**os.environ, "TINSMITH_TALLY": str(tally), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "-W", "ignore"], capture_output=True, text=True, env=environment, timeout=280)
    found = json.loads(tally.read_text(encoding="utf-8"))
    assert found["failures"] == [], done.stdout[-2000:]
    assert found["outcomes"]["passed"] > 600
    assert found["predictions"] > 480


def local_response_norm(tmp_path, x, **settings):
    b = Builder()
    b.input("x", dtypes.FP32, x.shape)
    y = b.op("local_response_norm", x.shape, x="x", **{key: b.const(value) for key, value in settings.items()})
    return open_program(b.save(tmp_path, y)).run({"x": x})[y]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_local_response_norm_is_that_of_torch(tmp_path, size):
    import torch

    x = np.random.default_rng(0).normal(size=(2, 5, 3, 2)).astype(np.float32)
    found = local_response_norm(tmp_path, x, size=size, alpha=0.5, beta=0.9, k=2.0)
    wanted = torch.nn.functional.local_response_norm(torch.tensor(x), size, 0.5, 0.9, 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_local_response_norm_over_no_channels_is_refused(tmp_path):
    with pytest.raises(Mismatch, match="0 channels"):
        local_response_norm(tmp_path, np.ones((1, 2, 3, 1), np.float32), size=0)


def test_local_response_norm_of_a_rank_on_which_apples_tests_disagree_is_refused(tmp_path):
    with pytest.raises(UnsupportedOp, match="rank 3"):
        local_response_norm(tmp_path, np.ones((1, 2, 3), np.float32), size=1)


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


WEIGHT = np.array([[1, 2, 3], [-4, 5, 6]])


def product(tmp_path, x_type, weight_type, *, kind="matmul", first="x"):
    """X [1, 3] times a constant of another type, as operand x or y of `matmul` or as `linear`'s weight."""
    b = Builder()
    b.input("a", x_type, (1, 3) if first == "x" else (2, 1))
    weight = b.const(WEIGHT, weight_type)
    if kind == "linear":
        return b.save(tmp_path, b.op("linear", (1, 2), x_type, x="a", weight=weight))
    if first == "x":
        return b.save(tmp_path, b.op("matmul", (1, 2), x_type, x="a", y=weight, transpose_y=b.const(True)))
    return b.save(tmp_path, b.op("matmul", (3, 1), x_type, x=weight, y="a", transpose_x=b.const(True)))


@pytest.mark.parametrize("weight_type", [dtypes.INT32, dtypes.FP16, dtypes.FP32])
@pytest.mark.parametrize("x_type", [dtypes.FP16, dtypes.FP32])
def test_a_constant_factor_may_have_another_type(tmp_path, x_type, weight_type):
    a = np.array([[0.5, 1, -1]], x_type.numpy)
    for kind in ("matmul", "linear"):
        (found,) = open_program(product(tmp_path / kind, x_type, weight_type, kind=kind)).run({"a": a}).values()
        np.testing.assert_array_equal(found, a @ WEIGHT.T)
    (found,) = open_program(product(tmp_path, x_type, weight_type, first="y")).run({"a": a[:, :2].T}).values()
    np.testing.assert_array_equal(found, WEIGHT.T @ a[:, :2].T)


@pytest.mark.parametrize("kind", ["matmul", "linear"])
def test_an_integer_times_a_constant_with_fractions_is_refused(tmp_path, kind):
    with pytest.raises(UnsupportedOp, match="'int32' times a constant of 'fp32'"):
        open_program(product(tmp_path, dtypes.INT32, dtypes.FP32, kind=kind))


def test_computed_factors_of_two_types_are_refused(tmp_path):
    b = Builder()
    y = b.op("matmul", (1, 2), x=b.input("a", dtypes.FP32, (1, 3)), y=b.input("b", dtypes.FP16, (3, 2)))
    with pytest.raises(Mismatch, match="operands of types 'fp32' and 'fp16'"):
        open_program(b.save(tmp_path, y))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [([0, -1], (2, 3)), ([1, 0, -1, 0], (1, 1, 2, 3)), ([0, 0, 0], (1, 2, 3)), ([-1, 0], (2, 3)), ([0], (3,))],
)
def test_zero_in_a_shape_copies_the_size_at_that_place_from_the_end(tmp_path, wanted, found):
    x = np.arange(np.prod(found), dtype=np.float32).reshape((2, 3) if len(found) > 1 else found)
    b = Builder()
    y = b.op("reshape", found, x=b.input("x", dtypes.FP32, x.shape), shape=b.const(np.array(wanted)))
    np.testing.assert_array_equal(open_program(b.save(tmp_path, y)).run({"x": x})[y], x.reshape(found))


def test_reshape_like_joins_slices_of_several_shapes(tmp_path):
    b = Builder()
    x = b.input("x", dtypes.FP32, (60,))
    references = [b.input("a", dtypes.FP32, (2, 3, 4)), b.input("b", dtypes.FP32, (1, 2, 5))]
    begins, ends = [b.const(0), b.const(1)], [b.const(2), b.const(0)]
    masks = [b.const(False), b.const(True)]
    y = b.op("reshape_like", (2, 3, 2, 5), x=x, ref_tensors=references, begins=begins, ends=ends, end_masks=masks)
    values = {"x": np.arange(60), "a": np.zeros((2, 3, 4)), "b": np.zeros((1, 2, 5))}
    found = open_program(b.save(tmp_path, y)).run({key: value.astype(np.float32) for key, value in values.items()})
    np.testing.assert_array_equal(found[y], np.arange(60).reshape(2, 3, 2, 5))


def test_topk_orders_by_value_without_being_asked_to(tmp_path):
    b = Builder()
    x, k = b.input("x", dtypes.FP32, (3,)), b.const(2)
    y = b.op("topk", (2,), x=x, k=k, axis=b.const(0), sort=b.const(False), return_indices=b.const(False))
    found = open_program(b.save(tmp_path, y)).run({"x": np.array([4, -5, 6], np.float32)})
    np.testing.assert_array_equal(found[y], [6, 4])


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("kind", "shape"), [("gather", (1,)), ("gather_along_axis", (1,)), ("scatter", (3,))])
def test_a_negative_index_lies_outside_since_ios_17(tmp_path, kind, shape, validate):
    def program(folder, **settings):
        b = Builder()
        x = b.input("x", dtypes.FP32, (3,))
        operands = {"data": x, "updates": b.const([1.0])} if kind == "scatter" else {"x": x}
        return open_program(
            b.save(
                tmp_path / folder,
                b.op(
                    kind,
                    shape,
                    indices=b.const([-1]),
                    **operands,
                    **{key: b.const(value) for key, value in settings.items()},
                ),
            )
        )

    x = {"x": np.arange(3, dtype=np.float32)}
    (found,) = program("before").run(x).values()
    assert found[-1] == (3 if kind == "scatter" else 2)
    with pytest.raises(Mismatch, match="indices between -1 and -1 into an axis of 3"):
        program("since", validate_indices=validate).run(x)
