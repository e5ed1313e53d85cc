import pytest

from stages.core.errors import InputError
from stages.data.splits import Example
from stages.tasks.classify import data

TRAIN = [Example(f"turn {thing} {state}", state) for thing in ("lamp", "fan", "oven") for state in ("on", "off")]


def test_the_share_of_right_answers_comes_with_n_and_interval():
    test = [Example("turn radio on", "on"), Example("turn radio off", "off"), Example("turn radio on", "off")]
    measured = data.honesty_bar(TRAIN, test, seed=0)
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["n"] == 3
    low, high = measured["accuracy_interval"]
    assert low < 2 / 3 < high


def test_word_pairs_count_and_not_only_words():
    train = [Example("not hot but cold", "cold"), Example("not cold but hot", "hot")] * 5
    test = [Example("but cold", "cold"), Example("but hot", "hot")]
    assert data.honesty_bar(train, test, seed=0)["accuracy"] == 1.0


def test_distant_order_is_beyond_it():
    train = [Example("one the two", "a"), Example("two the one", "b")] * 5
    right = data.honesty_bar(train, [Example("one and then two", "a"), Example("two and then one", "b")], seed=0)
    assert right["accuracy"] <= 0.5


def test_the_same_seed_gives_the_same_figure():
    assert data.honesty_bar(TRAIN, TRAIN, seed=3) == data.honesty_bar(TRAIN, TRAIN, seed=3)


def test_texts_without_words_are_refused():
    with pytest.raises(InputError, match="train has no word of two letters"):
        data.honesty_bar([Example("a", "x"), Example("!", "y")], [Example("a", "x")], seed=0)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_unknown_to_train_is_refused_by_name(split):
    splits = {"train": TRAIN, "validation": TRAIN, "test": TRAIN} | {split: [Example("new", "surprise")]}
    with pytest.raises(InputError, match=f"the {split} split has 1 label.*'surprise'"):
        data.read(splits)


def test_a_single_label_is_refused():
    with pytest.raises(InputError, match="train has one label only, 'on'"):
        data.read({"train": TRAIN[:1], "test": TRAIN[:1]})


def test_a_row_without_a_label_is_refused():
    with pytest.raises(InputError, match="the test split has a row without a label"):
        data.read({"train": TRAIN, "test": [Example("turn lamp on", None)]})


def test_classes_are_the_labels_of_train_sorted():
    assert data.classes(TRAIN) == ["off", "on"]
