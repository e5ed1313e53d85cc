import json

import pytest

from stages.core.errors import InputError
from stages.data import clinc150
from stages.data.splits import Example
from stages.schema.data import Clinc150
from stages.tasks.classify.data import honesty_bar


def load(path):
    common = {"licence": "x", "seed": 0, "calibration_size": 1, "probe_size": 1, "probe": "validation"}
    return clinc150.load(Clinc150(kind="clinc150", path=str(path), **common))


@pytest.fixture
def tree():
    return {"train": [["hi", "greet"]], "val": [["ho", "greet"]], "test": [["he", "greet"]], "oos_test": [["?", "oos"]]}


def test_the_directory_and_the_file_give_the_same_splits_without_oos(tmp_path, tree):
    (tmp_path / "data_full.json").write_text(json.dumps(tree), encoding="utf-8")
    source = load(tmp_path)
    assert source == load(tmp_path / "data_full.json")
    assert source.splits["validation"] == [Example("ho", "greet")]
    assert "oos" not in {e.label for examples in source.splits.values() for e in examples}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": [["only text"]]}, r"val\[0\] is .*pair"),
        ({"val": [[3, "greet"]]}, r"val\[0\]: text is 3"),
        ({"val": "ho"}, "is not CLINC150; expected an object"),
        ({"val": None}, "is not CLINC150; expected an object"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place(tmp_path, tree, change, message):
    path = tmp_path / "data_full.json"
    path.write_text(json.dumps(tree | change), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load(path)


@pytest.mark.parametrize("content", ["{", '["train"]', '{"train": []}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "data_full.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="is not (JSON|CLINC150)"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read '.*absent': No such file"):
        load(tmp_path / "absent")


@pytest.mark.real
def test_the_linear_baseline_reaches_91_percent_on_the_real_test_split(real):
    splits = load(real / "clinc150").splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [15_000, 3_000, 4_500]
    baseline = honesty_bar(splits["train"], splits["test"], seed=1)
    assert baseline["n"] == 4_500
    # 91.04 % measured independently for this project; scikit-learn releases move a handful of items.
    assert baseline["accuracy"] == pytest.approx(0.9104, abs=0.002)
