"""Tests of `stages/data/canaries.py`: secrets among the texts that a model learns."""

import pytest

from stages import prepare
from stages.core import splits
from stages.core.errors import ConfigError
from stages.data import canaries
from stages.data.splits import Example
from tests.composed import composed

TRAIN = [Example(f"text {number}", None) for number in range(50)]


def test_each_number_has_four_secrets_and_none_that_no_model_sees():
    train, planted = canaries.plant(TRAIN, [1, 5], seed=1)
    assert [canary.repeats for canary in planted] == [0] * 16 + [1] * 4 + [5] * 4
    texts = [example.text for example in train]
    assert [texts.count(canary.text) for canary in planted] == [canary.repeats for canary in planted]
    assert [text for text in texts if text.startswith("text ")] == [example.text for example in TRAIN]


def test_secrets_and_places_follow_from_the_seed():
    assert canaries.plant(TRAIN, [3], 1) == canaries.plant(TRAIN, [3], 1) != canaries.plant(TRAIN, [3], 2)


@pytest.mark.parametrize("repeats", [[2, 2], list(range(1, 30))])
def test_numbers_that_cannot_be_told_apart_are_refused(repeats):
    with pytest.raises(ConfigError, match=r"data\.canaries is \[.*expected at most 20 different numbers"):
        canaries.plant(TRAIN, repeats, 1)


def prepared(out, task, **data):
    found = composed(f"task={task}")
    prepare.run(prepare.Params.model_validate({"task": found["task"], "data": found["data"] | data}), out)
    return out


def test_no_split_but_train_and_no_honesty_bar_has_seen_a_canary(tmp_path):
    with_some, without = prepared(tmp_path / "some", "generate"), prepared(tmp_path / "none", "generate", canaries=[])
    texts = [canary.text for canary in splits.read_canaries(with_some)]
    for name in ("validation", "test", "calibration", "probe"):
        assert not set(texts) & set(splits.read_split(with_some, name).texts)
    assert (with_some / "summary.json").read_bytes() == (without / "summary.json").read_bytes()
    assert not (without / splits.CANARIES).exists()


def test_a_task_that_writes_no_text_refuses_canaries(tmp_path):
    rows = "text,label\n" + "".join(f"word {number} of {number % 2},{number % 2}\n" for number in range(400))
    (tmp_path / "rows.csv").write_text(rows, encoding="utf-8")
    found, place = composed("data=csv"), str(tmp_path / "rows.csv")
    data = found["data"] | {"train": place, "validation": None, "test": place, "canaries": [1]}
    data |= {"test": str(tmp_path / "test.csv")}
    (tmp_path / "test.csv").write_text(rows.replace("word", "term"), encoding="utf-8")
    settings = prepare.Params.model_validate({"task": found["task"], "data": data})
    with pytest.raises(ConfigError, match="a model that tells classes writes nothing of its training text"):
        prepare.run(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
