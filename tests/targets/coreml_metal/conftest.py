"""One conversion and one artifact of every precision, shared by the tests of coreml-metal."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stages.targets.coreml_metal.convert import convert
from tests.targets.coreml_models import PRECISIONS, TARGET, TASK, in_process, lowered
from tests.toys.classifiers import compressed


@pytest.fixture(scope="session")
def checkpoint(make_model, tmp_path_factory):
    def write(family, **overrides):
        return compressed(make_model(family, **overrides), tmp_path_factory.mktemp(f"coreml-{family}"), 1e4)

    return write


@pytest.fixture(scope="session")
def builds(checkpoint, tmp_path_factory):
    """The same conversion and artifacts twice: from this process, and from one with another hash seed."""
    from safetensors.numpy import load_file

    from stages.models.checkpoint import load_model

    first, second = (tmp_path_factory.mktemp("builds") / name for name in ("first", "second"))
    source = checkpoint("bert", intermediate_size=64)  # blocks of 32 divide every width
    (first / "converted").mkdir(parents=True)
    (first / "artifact").mkdir()
    convert(source, TASK, TARGET, first / "converted")
    reports = {
        name: lowered(first / "converted", precision, first / "artifact" / name)
        for name, precision in PRECISIONS.items()
    }
    imported = in_process(source, first / "converted", second, seed=1)
    return SimpleNamespace(
        first=first,
        second=second,
        converted=first / "converted",
        artifact=first / "artifact",
        used=imported,
        reports=reports,
        model=load_model(source),
        tensors=load_file(source / "model.safetensors"),
    )
