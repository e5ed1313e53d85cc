import subprocess
import sys

import numpy as np
import pytest

from benchmarks.coreml_fuzz import attempt
from stages.coreml import dtypes, ops, registry
from stages.coreml.ops import _limits
from tests.toys.mil import Builder

assert ops


def package_of(tmp_path):
    """A program that reads from every place a file can lie about: blobs, shapes, settings, states."""
    b = Builder()
    b.input("x", dtypes.FP16, (1, 4))
    b.state("kept", dtypes.FP16, (1, 4))
    data = b.const(np.arange(-8, 8).reshape(4, 4), dtypes.INT4, blob=True)
    scale = b.const(np.full((4, 1), 0.5), dtypes.FP16, blob=True)
    weight = b.op("constexpr_blockwise_shift_scale", (4, 4), dtypes.FP16, data=data, scale=scale)
    y = b.op("linear", (1, 4), dtypes.FP16, x="x", weight=weight)
    y = b.op("add", (1, 4), dtypes.FP16, x=y, y=b.op("read_state", (1, 4), dtypes.FP16, input="kept"))
    b.bind(b.block.operations.add(type="write_state"), {"input": "kept", "data": y})
    tall = b.op("reshape", (4, 1), dtypes.FP16, x=y, shape=b.const(np.array([4, 1])))
    tiled = b.op("tile", (4, 3), dtypes.FP16, x=tall, reps=b.const(np.array([1, 3])))
    kept = b.op("slice_by_size", (2, 3), dtypes.FP16, x=tiled, begin=b.const([1, 0]), size=b.const([2, -1]))
    return b.save(tmp_path, b.op("softmax", (2, 3), dtypes.FP16, x=kept, axis=b.const(-1)))


def test_the_undamaged_program_runs(tmp_path):
    assert attempt(package_of(tmp_path)) == "ran"


def test_damaged_packages_are_refused_within_bounded_memory(tmp_path):
    command = [sys.executable, "-m", "benchmarks.coreml_fuzz", str(package_of(tmp_path)), "--count", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Malformed" in done.stdout
    assert "ran" in done.stdout


@pytest.fixture
def lowered(monkeypatch):
    """Allow 32 elements, so that no program here would take more memory than any machine has."""
    monkeypatch.setattr(_limits, "MAX_ELEMENTS", 32)


@pytest.mark.usefixtures("lowered")
@pytest.mark.parametrize("shape", [(64,), (8, 8), (1,) * 20])
def test_shapes_beyond_the_limit_are_refused_before_anything_is_allocated(tmp_path, shape):
    b = Builder()
    b.input("x", dtypes.FP32, (1,))
    y = b.op("fill", shape, shape=b.const(np.array(shape)), value=b.const(0.0))
    assert attempt(b.save(tmp_path, y)) in ("Mismatch", "Malformed")


@pytest.mark.usefixtures("lowered")
def test_operands_that_broadcast_beyond_the_limit_are_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (8, 1))
    wide = b.op("transpose", (1, 8), x="x", perm=b.const(np.array([1, 0])))
    assert attempt(b.save(tmp_path, b.op("add", (4,), x="x", y=wide))) == "Mismatch"


def test_truncating_the_model_anywhere_is_refused(tmp_path):
    package = package_of(tmp_path)
    model = package / "Data/com.apple.CoreML/model.mlmodel"
    whole = model.read_bytes()
    for length in range(0, len(whole), 37):
        model.write_bytes(whole[:length])
        assert attempt(package) != "ran"


@pytest.mark.parametrize("manifest", ["", "[]", '{"rootModelIdentifier": "a"}', "nonsense", "[" * 2000])
def test_a_broken_manifest_is_refused(tmp_path, manifest):
    package = package_of(tmp_path)
    (package / "Manifest.json").write_text(manifest, encoding="utf-8")
    assert attempt(package) == "Malformed"


def test_a_manifest_that_points_outside_the_package_is_refused(tmp_path):
    package = package_of(tmp_path)
    text = (package / "Manifest.json").read_text(encoding="utf-8")
    (package / "Manifest.json").write_text(
        text.replace("com.apple.CoreML/model.mlmodel", "../../model.mlmodel"), encoding="utf-8"
    )
    assert attempt(package) == "Malformed"


def test_at_least_120_operations_are_defined():
    assert len(registry.OPS) >= 120


def test_no_operation_writes_into_its_arguments(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    x.flags.writeable = False  # numpy raises where an operation writes
    for name, definition in registry.OPS.items():
        required = [key for key, value in definition.parameters.items() if value.required]
        if required == ["x"] and name != "non_zero":
            definition.function(x=x)
