"""A split is read whole, or the error names its file."""

import pytest

from stages.core import splits
from stages.core.errors import ArtifactError


def test_labels_are_what_lies_in_the_file(tmp_path):
    (tmp_path / "test.jsonl").write_text(
        '{"text": "ja\u2028wohl", "label": "yes"}\n{"text": "?", "label": null}\n', encoding="utf-8"
    )
    found = splits.read_split(tmp_path, "test")
    assert found.texts == ["ja\u2028wohl", "?"]
    assert found.labels == ["yes", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"text": "a"}\n', "cannot read"),
        ("not json\n", "cannot read"),
        ("[1]\n", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "train.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        splits.read_split(tmp_path, "train")


def test_rows_are_spread_over_a_split_that_is_sorted_by_class():
    assert splits.spread(4500, 5).tolist() == [0, 1125, 2250, 3374, 4499]
    assert splits.spread(3, 50).tolist() == [0, 1, 2]
