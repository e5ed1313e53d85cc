"""The worker: what it times, in which order, what it answers, in what kind of process."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import host
from stages.core import artifact
from stages.core.closure import ROOT
from stages.core.errors import ArtifactError, InputError
from stages.measure import items
from stages.running import local, worker
from stages.running.runner import Receipt, Request, Timing
from stages.schema.asked import Asked
from stages.targets import registry
from stages.tasks.base import FORWARD, Timed
from stages.tasks.classify import exercise
from tests.targets.running import sign
from tests.toys.graphs import adding

MAX_LENGTH = 16
HEAVY = {"torch", "transformers", "onnx", "coremltools", "mlflow", "ai_edge_litert"}
REQUEST = Request(
    target="onnx-cpu", threads=1, answer=None, time=Timing(split="probe", texts=3, warmup=2, repetitions=10)
)


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    lengths = np.array([4, 9, 16, 5])
    mask = (np.arange(MAX_LENGTH) < lengths[:, None]).astype(np.int32)
    np.savez(
        tmp_path / "probe.npz",
        input_ids=mask * 7,
        attention_mask=mask,
        labels=np.zeros(4, np.int64),
        logits=np.zeros((4, 1), np.float32),
    )
    return tmp_path / "probe.npz"


@pytest.fixture
def onnx_artifact(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(adding())
    sign(tmp_path, MAX_LENGTH, dynamic=True)
    return tmp_path


class Recorder:
    """A session that notes what it was asked for."""

    label, batches = "recorder", False

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.collecting: list[bool] = []

    def new_state(self) -> None:
        return None

    def run(self, call: str, inputs: Any, state: Any = None) -> dict[str, Any]:
        assert (call, state) == (FORWARD, None)
        self.lengths.append(inputs["input_ids"].shape[1])
        self.collecting.append(gc.isenabled())
        return {"logits": np.zeros((1, 1), np.float32)}


def calls(probe: Path, count: int) -> worker.Calls:
    return exercise.timed(worker.read_split(probe, count))


def test_lengths_are_true_and_full_interleaved_and_warm_up_is_not_recorded(probe: Path) -> None:
    session = Recorder()
    samples = worker.sample(session, calls(probe, 2), warmup=1, repetitions=4)
    assert session.lengths == [16, 9, 4, 16, 16, 9, 4, 16, 16, 9]
    assert {kind: len(values) for kind, values in samples.items()} == {"true_length": 4, "full_length": 4}
    assert all(value > 0 for values in samples.values() for value in values)


def test_a_context_is_read_once_and_untimed_before_the_calls_that_go_on_from_it() -> None:
    class Keeper:
        label, batches = "table", False

        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def new_state(self) -> list[int]:
            self.seen.append([])
            return self.seen[-1]

        def run(self, call: str, inputs: Any, state: Any = None) -> Any:
            state.append(inputs["input_ids"].shape[1])
            return {}

    ids = {size: {"input_ids": np.zeros((1, size), np.int32)} for size in (1, 5)}
    steps = [Timed("decode", ids[1], ids[5], goes_on=step > 0) for step in range(3)]
    session = Keeper()
    samples = worker.sample(session, {"decode": steps * 2}, warmup=0, repetitions=6)
    assert session.seen == [[5, 1, 1, 1]] * 2
    assert len(samples["decode"]) == 6


def test_the_garbage_collector_rests_while_the_clock_runs_and_wakes_afterwards(probe: Path) -> None:
    session = Recorder()
    worker.sample(session, calls(probe, 4), warmup=0, repetitions=3)
    assert session.collecting == [False] * 6
    assert gc.isenabled()


def test_a_split_without_texts_or_unreadable_is_refused(probe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no text"):
        worker.read_split(probe, 0)
    (tmp_path / "cut.npz").write_bytes(probe.read_bytes()[:80])
    with pytest.raises(ArtifactError, match="cannot read"):
        worker.read_split(tmp_path / "cut.npz")


@pytest.mark.skipif(not worker.STATUS.is_file(), reason="needs /proc")
def test_peak_memory_is_this_process_own_and_remembers_what_was_freed() -> None:
    parent = np.ones(256 << 20, np.uint8)  # ru_maxrss of a child would start from here
    program = (
        "import numpy as np; from stages.running.worker import peak_rss_bytes as peak; before = peak(); "
        "block = np.ones(64 << 20, np.uint8); del block; print(before, peak())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < parent.nbytes
    assert 48 << 20 < after - before < 80 << 20


@pytest.mark.target
@pytest.mark.usefixtures("probe")
def test_a_fresh_process_times_an_artifact_with_one_runtime_and_no_toolchain(onnx_artifact: Path) -> None:
    artifact.write_json(onnx_artifact / "request.json", REQUEST.model_dump())
    places = {"request": onnx_artifact / "request.json"} | dict.fromkeys(("artifact", "inputs", "out"), onnx_artifact)
    arguments = [part for name, path in places.items() for part in (f"--{name}", str(path))]
    program = (
        f"import sys; from stages.running import worker; status = worker.main({arguments!r}); "
        f"found = {HEAVY} & set(sys.modules); assert not found, found; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    receipt: Receipt = artifact.read_json(onnx_artifact / "receipt.json")
    assert {kind: len(found) for kind, found in receipt["samples_ms"].items()} == {"true_length": 10, "full_length": 10}
    assert receipt["runtime"] == "onnxruntime-cpu"
    assert 0 < receipt["load_time_ms"] < 60_000
    assert 20 << 20 < receipt["peak_rss_bytes"] < 1 << 30


@pytest.mark.target
def test_answers_are_those_of_a_session_wherever_they_are_asked_for(
    onnx_artifact: Path, probe: Path, tmp_path: Path
) -> None:
    asked = Asked(
        task="classify", splits=["probe"], keep=["probe"], vocabulary=8, reach=0, together=True, greedy=False,
        saturation=True,
    )  # fmt: skip
    receipt = local.run(REQUEST.model_copy(update={"answer": asked, "time": None}), *[onnx_artifact] * 3)
    split = artifact.read_arrays(probe)
    here = np.concatenate(list(exercise.answer(registry.runtime("onnx-cpu").open_runtime(onnx_artifact, 1), split)))
    np.testing.assert_array_equal(artifact.read_arrays(onnx_artifact / "answers.npz")["probe"], here)
    assert (here.shape, receipt["samples_ms"]) == ((4, 1), {})
    assert set(receipt["compared"]) == {"form", "saturation", "splits", "together"}
    assert receipt["compared"]["splits"]["probe"]["values"]["max_abs_error"] == here.max() > 0
    assert items.read(onnx_artifact)["probe"].max_abs_error.tolist() == here[:, 0].tolist()
    with_timing = REQUEST.model_copy(update={"answer": asked})
    out = tmp_path / "elsewhere"
    out.mkdir()
    there = local.run(with_timing, onnx_artifact, onnx_artifact, out)["compared"]
    assert there == json.loads(json.dumps(receipt["compared"]))
    assert (out / "items.npz").read_bytes() == (onnx_artifact / "items.npz").read_bytes()


@pytest.mark.target
@pytest.mark.usefixtures("probe")
def test_a_damaged_artifact_ends_in_one_line_and_no_receipt(onnx_artifact: Path) -> None:
    (onnx_artifact / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match="cannot be run: error: onnxruntime cannot open") as caught:
        local.run(REQUEST, onnx_artifact, onnx_artifact, onnx_artifact)
    assert "\n" not in str(caught.value)
    assert not (onnx_artifact / "receipt.json").exists()


def test_this_host_is_what_the_build_says_it_is(tmp_path: Path) -> None:
    host.run(tmp_path / "host.json", dict.fromkeys(host.LISTED.values(), ()))
    assert (local.available(), local.fingerprint()) == (None, artifact.read_json(tmp_path / "host.json"))
