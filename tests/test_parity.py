"""Parity measures what the artifact answers and never judges it."""

import subprocess
import sys

import numpy as np
import pytest

from stages import parity

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
        f"import sys; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
