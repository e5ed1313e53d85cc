"""Conversion to ONNX: parity with Hugging Face, and equal bytes everywhere."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import ConversionError
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.convert import _check_signature
from stages.targets.onnx_cpu.runtime import open_runtime
from tests.targets.onnx_models import (
    FAMILIES,
    INTEGER,
    REPOSITORY,
    TARGET,
    TASK,
    VOCABULARY,
    run_all,
    sha256,
    utterances,
)

pytestmark = pytest.mark.target


@pytest.mark.parametrize("family", FAMILIES)
def test_converted_graph_agrees_with_hugging_face_at_every_length(
    family: str, checkpoints: dict[str, Path], converted: dict[str, Path]
) -> None:
    import torch

    from stages.models.checkpoint import load_model

    model, runtime = load_model(checkpoints[family]), open_runtime(converted[family], threads=1)
    random = np.random.default_rng(0)
    for length, padded in ((1, 0), (2, 0), (7, 0), (16, 5), (32, 0), (32, 20)):
        ids = random.integers(1, VOCABULARY, (1, length)).astype(np.int32)
        mask = np.ones_like(ids)
        mask[:, length - padded :] = 0
        with torch.no_grad():
            reference = model(torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long()).logits.numpy()
        logits = runtime.run({"input_ids": ids, "attention_mask": mask})["logits"]
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, reference, atol=1e-5)
        assert np.ptp(reference) > 0.05


def test_one_graph_takes_any_batch(converted: dict[str, Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(converted["bert"] / graph.MODEL, providers=["CPUExecutionProvider"])
    inputs = utterances(3)
    batch = session.run(["logits"], inputs)[0]
    np.testing.assert_allclose(batch, run_all(converted["bert"], inputs), atol=1e-5)


def test_albert_stores_its_shared_layer_once(checkpoints: dict[str, Path], converted: dict[str, Path]) -> None:
    weights = (checkpoints["albert"] / "model.safetensors").stat().st_size
    assert (converted["albert"] / graph.MODEL).stat().st_size < 1.3 * weights


def test_bytes_hold_no_path_of_this_machine(
    checkpoints: dict[str, Path], converted: dict[str, Path], artifacts: dict[str, Path]
) -> None:
    forbidden = [b"site-packages", b'.py", line', str(REPOSITORY).encode(), str(Path.home()).encode() + b"/"]
    forbidden += [str(path.parent).encode() for path in checkpoints.values()]
    for directory in (*converted.values(), *artifacts.values()):
        written = (directory / graph.MODEL).read_bytes()
        assert [item for item in forbidden if item in written] == []


OTHER_PROCESS = """
import pickle, sys
from pathlib import Path
checkpoint, converted, calibration, task, target, precisions, out = pickle.loads(sys.stdin.buffer.read())
from stages.targets.onnx_cpu.quantize import quantize
for name, precision in precisions.items():
    (out / name).mkdir(parents=True)
    quantize(converted, precision, calibration, target, out / name)
assert "torch" not in sys.modules, "quantize imported torch"
from stages.targets.onnx_cpu.convert import convert
(out / "converted").mkdir()
convert(checkpoint, task, target, out / "converted")
"""


def test_another_process_writes_the_same_bytes_and_quantises_without_torch(
    checkpoints: dict[str, Path], converted: dict[str, Path], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "again"
    work = (checkpoints["bert"], converted["bert"], utterances(16, seed=1), TASK, TARGET, INTEGER, out)
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=pickle.dumps(work),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    expected = {name: sha256(path) for name, path in {**artifacts, "converted": converted["bert"]}.items()}
    assert {path.name: sha256(path) for path in out.iterdir()} == expected


def test_convert_refuses_a_graph_with_other_inputs(converted: dict[str, Path]) -> None:

    model = graph.load(converted["bert"] / graph.MODEL)
    with pytest.raises(ConversionError, match="expected opset 19 only"):
        _check_signature(model, 19)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    with pytest.raises(ConversionError, match="the exported graph maps"):
        _check_signature(model, 20)
