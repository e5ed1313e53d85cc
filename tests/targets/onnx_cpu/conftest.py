"""One conversion of every family and one artifact of every precision, shared by the tests of onnx-cpu."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.targets.onnx_cpu.convert import convert
from tests.targets.onnx_models import (
    FAMILIES,
    SMALLER,
    TARGET,
    TASK,
    lowered,
    make_checkpoint,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_checkpoint(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(scope="session")
def converted(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directories = {}
    for family, checkpoint in checkpoints.items():
        directories[family] = tmp_path_factory.mktemp(f"converted-{family}")
        convert(checkpoint, TASK, TARGET, directories[family])
    return directories


@pytest.fixture(scope="session")
def artifacts(converted: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("artifacts")
    return {name: lowered(converted["bert"], precision, root / name)[0] for name, precision in SMALLER.items()}
