"""Two artifacts are timed in turns, each in a process of its own, and one that cannot be timed is named."""

import shutil

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.running import local
from stages.running.timing import TURNS, time_in_turns
from stages.schema.gate import Benchmark
from tests.targets.running import sign
from tests.toys.graphs import averaging

pytestmark = pytest.mark.target
SETTINGS = Benchmark(threads=1, warmup=1, repetitions=10, utterances=2, confidence=0.95)


@pytest.fixture
def artifact(tmp_path):
    """A model that answers with the mean of its tokens' rows."""
    directory = tmp_path / "sound"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(averaging())
    sign(directory, 4, dynamic=True)
    return directory


@pytest.fixture
def probe(tmp_path):
    ones = np.ones((2, 4), np.int32)
    np.savez(tmp_path / "probe.npz", input_ids=ones, attention_mask=ones)
    return tmp_path


def test_every_turn_gives_one_ratio_measured_anew(artifact, probe, tmp_path):
    shutil.copytree(artifact, tmp_path / "copy")
    ratios = time_in_turns(local, "onnx-cpu", artifact, tmp_path / "copy", probe, "true_length", SETTINGS)
    assert len(set(ratios)) == TURNS
    assert min(ratios) > 0


def test_what_cannot_be_timed_is_named(artifact, probe, tmp_path):
    with pytest.raises(ArtifactError, match="missing' cannot be run: error: "):
        time_in_turns(local, "onnx-cpu", artifact, tmp_path / "missing", probe, "true_length", SETTINGS)
