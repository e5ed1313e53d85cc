"""A split is read whole, or the error names its file."""

import numpy as np
import pytest

from stages.core import artifact, splits
from stages.core.errors import ArtifactError


@pytest.fixture
def prepared(tmp_path):
    artifact.write_json(tmp_path / "labels.json", ["no", "yes"])
    return tmp_path


def test_labels_become_class_ids_and_null_becomes_unknown(prepared):
    (prepared / "test.jsonl").write_text(
        '{"text": "ja\u2028wohl", "label": "yes"}\n{"text": "?", "label": null}\n', encoding="utf-8"
    )
    found = splits.read_split(prepared, "test")
    assert found.texts == ["ja\u2028wohl", "?"]
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [1, splits.UNKNOWN]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"text": "a", "label": "maybe"}\n', "label 'maybe' is not in labels.json"),
        ('{"text": "a"}\n', "cannot read"),
        ("not json\n", "cannot read"),
        ("[1]\n", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(content, message, prepared):
    if content is not None:
        (prepared / "train.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        splits.read_split(prepared, "train")


def test_rows_are_spread_over_a_split_that_is_sorted_by_class():
    assert splits.spread(4500, 5).tolist() == [0, 1125, 2250, 3374, 4499]
    assert splits.spread(3, 50).tolist() == [0, 1, 2]
