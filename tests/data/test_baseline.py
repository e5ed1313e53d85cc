import pytest

from stages.core.errors import InputError
from stages.data.baseline import measure_baseline
from stages.data.splits import Example

TRAIN = [Example(f"turn {thing} {state}", state) for thing in ("lamp", "fan", "oven") for state in ("on", "off")]


def test_the_share_of_right_answers_comes_with_n_and_interval():
    test = [Example("turn radio on", "on"), Example("turn radio off", "off"), Example("turn radio on", "off")]
    measured = measure_baseline(TRAIN, test, seed=0)
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["n"] == 3
    low, high = measured["accuracy_interval"]
    assert low < 2 / 3 < high


def test_word_pairs_count_and_not_only_words():
    train = [Example("not hot but cold", "cold"), Example("not cold but hot", "hot")] * 5
    test = [Example("but cold", "cold"), Example("but hot", "hot")]
    assert measure_baseline(train, test, seed=0)["accuracy"] == 1.0


def test_distant_order_is_beyond_it():
    train = [Example("one the two", "a"), Example("two the one", "b")] * 5
    right = measure_baseline(train, [Example("one and then two", "a"), Example("two and then one", "b")], seed=0)
    assert right["accuracy"] <= 0.5


def test_the_same_seed_gives_the_same_figure():
    assert measure_baseline(TRAIN, TRAIN, seed=3) == measure_baseline(TRAIN, TRAIN, seed=3)


def test_texts_without_words_are_refused():
    with pytest.raises(InputError, match="train has no word of two letters"):
        measure_baseline([Example("a", "x"), Example("!", "y")], [Example("a", "x")], seed=0)
