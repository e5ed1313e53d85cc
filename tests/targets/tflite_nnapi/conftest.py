"""One conversion of every family and one artifact of every precision, shared by the tests of tflite-nnapi."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.targets.tflite_nnapi.convert import convert
from tests.targets.tflite_models import ONE_LENGTH, PRECISIONS, TARGET, TASK, lowered
from tests.toys.classifiers import compressed


@pytest.fixture(scope="session")
def checkpoints(make_model, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    for family in ("albert", "bert", "distilbert", "mobilebert"):
        shape = {"hidden_act": "quick_gelu", "hidden_size": 64, "intermediate_size": 256} if family == "bert" else {}
        compressed(make_model(family, **shape), root / family)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def converted(checkpoints, tmp_path_factory) -> dict[str, Path]:
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("converted")
    for family, checkpoint in checkpoints.items():
        (root / family).mkdir()
        convert(checkpoint, TASK if family == "bert" else ONE_LENGTH, TARGET, root / family)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def artifacts(converted, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("artifacts")
    return {name: lowered(converted["bert"], name, root / name)[0] for name in PRECISIONS}
