"""Parity measures what the artifact answers and never judges it."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages import parity
from stages.core import artifact
from stages.core.errors import ArtifactError

LOGITS = np.float32([[3, 0], [0, 3], [2, 1], [0, 1]])


class Recorder:
    """A runtime that answers from a table and remembers what it was asked."""

    label = "table"

    def __init__(self, answers):
        self.answers, self.shapes = answers, []

    def run(self, inputs):
        self.shapes.append(inputs["input_ids"].shape)
        row = int(inputs["input_ids"][0, 0])
        return {"logits": self.answers[row : row + 1]}


def split():
    ids = np.zeros((4, 8), np.int32)
    ids[:, 0] = range(4)
    mask = (np.arange(8) < np.array([[2], [8], [5], [3]])).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask, "labels": np.array([0, 1, 0, 1]), "logits": LOGITS}


def test_each_utterance_runs_alone_at_its_true_length_in_order():
    runtime = Recorder(LOGITS)
    assert (parity.evaluate(runtime, split(), "test") == LOGITS).all()
    assert runtime.shapes == [(1, 2), (1, 8), (1, 5), (1, 3)]


def test_wrong_answers_lower_agreement_and_accuracy():
    outputs = LOGITS[:, ::-1].copy()
    measured = parity.measure(split(), split(), LOGITS, {"probe": LOGITS, "test": outputs})
    assert measured["probe"]["values"]["top1_agreement"] == 1
    assert measured["test"]["values"]["top1_agreement"] == 0
    assert measured["test"]["values"]["accuracy"] == 0
    assert measured["test"]["values"]["accuracy_drop_to_teacher"] == 1


def test_nan_leaves_no_quality_to_be_mistaken_for_one():
    poisoned = LOGITS.copy()
    poisoned[2, 1] = np.nan
    measured = parity.measure(split(), split(), LOGITS, {"probe": LOGITS, "test": poisoned})
    assert measured["test"]["values"] == {"non_finite_count": 1, "n": 4}


WEIGHTS = {name: np.random.default_rng(seed).normal(size=(32, 40)).astype(np.float32) for seed, name in enumerate("ab")}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Run parity on an artifact that stores given weights, and return its metrics."""
    for name in ("artifact", "checkpoint", "reference", "teacher"):
        with artifact.writing(tmp_path / name, stage=name, parents={}) as out:
            save_file(WEIGHTS, out / "model.safetensors")
            np.save(out / "test_logits.npy", LOGITS)
            for part in ("probe", "test"):
                artifact.write_arrays(out / f"{part}.npz", split())

    def run(stored, reason=None):
        def weights(directory):
            if stored is None:
                raise ArtifactError(f"'{directory}' is damaged")
            return stored

        runtime = SimpleNamespace(available=lambda: reason, open_runtime=lambda *_, **__: Recorder(LOGITS))
        parts = {"runtime": runtime, "weights": SimpleNamespace(weights=weights)}
        monkeypatch.setattr(parity.registry, "load", lambda _, part: parts[part])
        places = (tmp_path / name for name in ("artifact", "checkpoint", "reference", "teacher", "out"))
        parity.run("table", *places)
        return artifact.read_json(tmp_path / "out/metrics.json")

    return run


def test_the_worst_weight_is_named_beside_the_smallest_cosine(measured):
    sound = measured(WEIGHTS)
    assert sound["audit"]["values"] == {"n": 4, "weight_cosine_min": pytest.approx(1)}
    broken = measured(WEIGHTS | {"b": np.zeros((32, 40), np.float32)})
    assert broken["status"] == "measured"
    assert broken["test"]["values"]["top1_agreement"] == 1
    assert broken["audit"]["values"]["weight_cosine_min"] == broken["audit"]["weights"]["b"] < 0.1
    assert broken["audit"]["weights"]["a"] == pytest.approx(1)


def test_weights_are_audited_where_no_runtime_is(measured):
    found = measured({"a": WEIGHTS["a"]}, reason="runs elsewhere only")
    assert (found["status"], found["reason"]) == ("not_measured", "runs elsewhere only")
    assert found["audit"]["weights"]["b"] < 0.1


@pytest.mark.parametrize("reason", [None, "runs elsewhere only"])
def test_weights_that_cannot_be_read_fail(measured, reason):
    found = measured(None, reason)
    assert (found["status"], "audit" in found) == ("failed", False)
    assert "is damaged" in found["reason"]


@pytest.mark.parametrize("stage", ["parity", "benchmark", "gate", "report", "release", "summary", "host", "track"])
def test_stages_after_the_reference_import_no_toolchain(stage):
    """`track` imports MLflow only when something is missing from its database."""
    heavy = ("torch", "transformers", "coremltools", "litert_torch", "mlflow", "tensorflow", "onnx", "sklearn")
    code = f"import stages.{stage}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("target", ["onnx-cpu", "tflite-nnapi", "coreml-metal"])
def test_runtimes_and_precision_lists_import_no_training_toolchain(target):
    heavy = ("torch", "transformers", "litert_torch", "mlflow", "tensorflow", "ai_edge_quantizer")
    code = (
        f"from stages.targets import registry; runtime = registry.load('{target}', 'runtime'); runtime.available();"
        f"registry.load('{target}', 'weights');"
        f"registry.load('{target}', 'weights'); import sys; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
