import pytest

from stages.core.errors import ConfigError
from stages.data.splits import Example
from stages.data.synthetic import COMMON, invent

TRAIN = [Example(f"turn the {thing} on", "a") for thing in ("lamp", "radio", "fan", "heater")] * COMMON
RARE = [Example("call 555 0199 now", "b")]


def test_only_common_words_are_borrowed_and_no_real_text_comes_out():
    found = invent(TRAIN + RARE, ["Turn THE lamp on"], 40, seed=1)
    words = {word for example in found for word in example.text.split()}
    assert words <= {"turn", "the", "lamp", "radio", "fan", "heater", "on"}
    assert len({example.text for example in found}) == 40
    assert {len(example.text.split()) for example in found} == {4}
    assert "turn the lamp on" not in {example.text for example in found}


def test_a_seed_gives_the_same_texts_and_another_gives_others():
    assert invent(TRAIN, [], 9, seed=1) == invent(TRAIN, [], 9, seed=1)
    assert invent(TRAIN, [], 9, seed=1) != invent(TRAIN, [], 9, seed=2)


@pytest.mark.parametrize(("train", "words"), [(RARE, 0), ([Example("on", "a")] * COMMON, 1)])
def test_too_few_words_are_refused_rather_than_waited_for(train, words):
    with pytest.raises(ConfigError, match=f"only {words} words that occur in 5 utterances"):
        invent(train, [], 2, seed=0)
