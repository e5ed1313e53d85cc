"""A trained checkpoint at every integer precision: the figures that a random one cannot give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.schema.task import Task
from stages.targets.onnx_cpu import quantize
from stages.targets.onnx_cpu.convert import convert
from tests.targets.faults_onnx import zero_onnx_layer
from tests.targets.onnx_models import INTEGER, REPOSITORY, TARGET, run_all

REAL = REPOSITORY.parent / "shared/real"
TASK = Task(name="classify", max_length=64, sequence_lengths=[16, 32, 64])
UTTERANCES = 160

pytestmark = [
    pytest.mark.target,
    pytest.mark.real,
    pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real"),
]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The converted student, its test and calibration inputs, and Hugging Face's logits for the former."""
    import torch

    from stages.models.checkpoint import load_model, load_tokenizer

    checkpoint, converted = tmp_path_factory.mktemp("student"), tmp_path_factory.mktemp("converted-student")
    shutil.copytree(REAL / "clinc150_student", checkpoint, dirs_exist_ok=True, copy_function=shutil.copyfile)
    (checkpoint / "profile.json").write_text(json.dumps({"mask_constant": 32.0}), encoding="utf-8")
    convert(checkpoint, TASK, TARGET, converted)
    data, tokenizer = (
        json.loads((REAL / "clinc150/data_full.json").read_text(encoding="utf-8")),
        load_tokenizer(checkpoint),
    )
    inputs = {}
    for split in ("test", "train"):
        texts = [text for text, _ in data[split][:: len(data[split]) // UTTERANCES][:UTTERANCES]]
        encoded = tokenizer(texts, padding="max_length", max_length=64, truncation=True, return_tensors="np")
        inputs[split] = {name: encoded[name].astype(np.int32) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = load_model(checkpoint)(**{name: torch.tensor(array) for name, array in inputs["test"].items()}).logits
    return {"converted": converted, "logits": logits.numpy(), **inputs}


def relative_error(student: dict[str, Any], outputs: Any) -> float:
    return float(np.abs(outputs - student["logits"]).max() / np.ptp(student["logits"]))


@pytest.mark.parametrize("name", INTEGER)
def test_integers_keep_the_students_answers_and_a_zeroed_layer_stands_out(
    name: str, student: dict[str, Any], tmp_path: Path
) -> None:
    quantize.quantize(student["converted"], INTEGER[name], student["train"], TARGET, tmp_path)
    outputs = run_all(tmp_path, student["test"])
    assert (outputs.argmax(1) == student["logits"].argmax(1)).mean() >= 0.98
    assert relative_error(student, outputs) < 0.03
    zero_onnx_layer(tmp_path)
    assert relative_error(student, run_all(tmp_path, student["test"])) > 0.04
