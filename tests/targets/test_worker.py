"""The benchmark worker: what it times, in which order, in what kind of process."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.targets import worker
from tests.targets.running import sign

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_LENGTH = 16


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    lengths = np.array([4, 9, 16, 5])
    mask = (np.arange(MAX_LENGTH) < lengths[:, None]).astype(np.int32)
    np.savez(tmp_path / "probe.npz", input_ids=mask * 7, attention_mask=mask, labels=np.zeros(4, np.int64))
    return tmp_path / "probe.npz"


@pytest.fixture
def onnx_artifact(tmp_path: Path) -> Path:
    from onnx import TensorProto, helper

    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"]),
            helper.make_node("Cast", ["masked"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["floats"], ["logits"], keepdims=1),
        ],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.INT32, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    sign(tmp_path, MAX_LENGTH, dynamic=True)
    return tmp_path


class Recorder:
    """A runtime that notes what it was asked for."""

    label = "recorder"

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.collecting: list[bool] = []

    def run(self, call: str, inputs: Any) -> dict[str, Any]:
        self.lengths.append(inputs["input_ids"].shape[1])
        self.collecting.append(gc.isenabled())
        return {"logits": np.zeros((1, 1), np.float32)}


def test_lengths_are_true_and_full_interleaved_and_warm_up_is_not_recorded(probe: Path) -> None:
    runtime = Recorder()
    samples = worker.sample(runtime, worker.utterances(probe, 2), warmup=1, repetitions=4)
    assert runtime.lengths == [16, 9, 4, 16, 16, 9, 4, 16, 16, 9]
    assert {kind: len(values) for kind, values in samples.items()} == {"true_length": 4, "full_length": 4}
    assert all(value > 0 for values in samples.values() for value in values)


def test_the_garbage_collector_rests_while_the_clock_runs_and_wakes_afterwards(probe: Path) -> None:
    runtime = Recorder()
    worker.sample(runtime, worker.utterances(probe, 4), warmup=0, repetitions=3)
    assert runtime.collecting == [False] * 6
    assert gc.isenabled()


def test_a_probe_without_utterances_or_unreadable_is_refused(probe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no utterance"):
        worker.utterances(probe, 0)
    (tmp_path / "cut.npz").write_bytes(probe.read_bytes()[:80])
    with pytest.raises(InputError, match="cannot read probe inputs"):
        worker.utterances(tmp_path / "cut.npz", 4)


@pytest.mark.skipif(not worker.STATUS.is_file(), reason="needs /proc")
def test_peak_memory_is_this_process_own_and_remembers_what_was_freed() -> None:
    parent = np.ones(256 << 20, np.uint8)  # ru_maxrss of a child would start from here
    program = (
        "import numpy as np; from stages.targets.worker import peak_rss_bytes as peak; before = peak(); "
        "block = np.ones(64 << 20, np.uint8); del block; print(before, peak())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < parent.nbytes
    assert 48 << 20 < after - before < 80 << 20


def run_worker(artifact: Path, probe: Path, out: Path, *, code: str = "") -> subprocess.CompletedProcess[str]:
    arguments = ["--target", "onnx-cpu", "--artifact", str(artifact), "--inputs", str(probe), "--json", str(out)]
    arguments += ["--threads", "1", "--warmup", "2", "--repetitions", "10", "--utterances", "3"]
    program = (
        f"import sys; from stages.targets import worker; status = worker.main({arguments!r}); {code}sys.exit(status)"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.target
def test_a_fresh_process_times_an_artifact_with_one_runtime_and_no_toolchain(
    onnx_artifact: Path, probe: Path, tmp_path: Path
) -> None:
    heavy = "{'torch', 'transformers', 'onnx', 'coremltools', 'mlflow', 'ai_edge_litert'}"
    done = run_worker(
        onnx_artifact,
        probe,
        tmp_path / "out.json",
        code=f"found = {heavy} & set(sys.modules); assert not found, found; ",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {kind: len(values) for kind, values in result["samples_ms"].items()} == {
        "true_length": 10,
        "full_length": 10,
    }
    assert result["runtime"] == "onnxruntime-cpu"
    assert (result["threads"], result["utterances"]) == (1, 3)
    assert 0 < result["load_time_ms"] < 60_000
    assert 20 << 20 < result["peak_rss_bytes"] < 1 << 30


@pytest.mark.target
def test_a_damaged_artifact_ends_in_one_line_and_no_file(onnx_artifact: Path, probe: Path, tmp_path: Path) -> None:
    (onnx_artifact / "model.onnx").write_bytes(b"not a model")
    done = run_worker(onnx_artifact, probe, tmp_path / "out.json")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: onnxruntime cannot open")
    assert not (tmp_path / "out.json").exists()
