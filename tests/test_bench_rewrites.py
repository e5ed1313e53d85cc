"""What the benchmark of rewrites says of a checkpoint's answers with another GELU."""

import numpy as np
import pytest

from benchmarks import rewrites
from stages.core import artifact
from tests.toys.classifiers import LABELS, prepare, published


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Output of `prepare`, with the settings that a build's has."""
    out = prepare(tmp_path_factory.mktemp("build") / "data")
    manifest = artifact.manifest(out)
    artifact.write_json(out / "manifest.json", manifest | {"params": {"task": {"max_length": 16}}})
    return out


def test_a_row_counts_equal_answers_right_ones_and_the_farthest_logit():
    reference = np.float32([[2, 0], [0, 2], [2, 0], [0, 2]])
    changed = np.float32([[2, 0], [0, 2], [0, 1], [0, 2]])
    row = rewrites.cost("name", changed, reference, np.array([0, 1, 0, 0]))
    assert row.startswith("| name | 75.00 % [")
    assert "] | 50.00 % | -25.00 [" in row
    assert row.endswith(" | 2.0000 |")


def test_every_approximation_is_compared_with_the_checkpoint_as_published(data, tmp_path, capsys):
    checkpoint = published(tmp_path / "own")
    assert rewrites.main(["cost", "--data", str(data), "--split", "test", str(checkpoint)]) == 0
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("| test, 40 texts |")
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    assert [row[1] for row in cells] == ["own, as published", "own, gelu_as_tanh", "own, gelu_as_sigmoid"]
    worst = [float(row[5]) for row in cells]
    assert worst[0] == 0 < worst[1] < worst[2]


def test_a_checkpoint_that_numbers_its_classes_otherwise_is_refused(data, tmp_path):
    turned, config = published(tmp_path / "turned"), tmp_path / "turned/config.json"
    named = artifact.read_json(config) | {"id2label": dict(enumerate(reversed(LABELS)))}
    artifact.write_json(config, named | {"label2id": {name: index for index, name in named["id2label"].items()}})
    with pytest.raises(SystemExit, match="numbers its classes otherwise"):
        rewrites.main(["cost", "--data", str(data), str(turned)])
