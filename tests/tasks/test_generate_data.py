"""Tests of `stages/tasks/generate/data.py`."""

import math
from random import Random

import pytest

from stages.data.splits import Example
from stages.tasks.generate import data


def examples(*texts):
    return [Example(text, None) for text in texts]


def test_labels_are_left_behind():
    raw = {"train": [Example("a b", "greeting")], "test": [Example("c", None)]}
    assert data.read(raw) == {"train": examples("a b"), "test": examples("c")}
    assert data.classes(raw["train"]) == []


def test_the_bar_without_any_context_is_the_estimate_of_witten_and_bell():
    found = data.honesty_bar(examples("a"), examples("a", "b"), 1)
    seen, unseen = (1 + 1 / 256) / 2, (0 + 1 / 256) / 2  # one count of one kind, and the uniform share behind it
    assert found["bits_per_byte"] == pytest.approx(-(math.log2(seen) + math.log2(unseen)) / 2)
    assert found["n"] == 2


def test_noise_costs_a_byte_its_entropy_and_what_repeats_costs_nothing():
    random = Random(1)
    noise = ["".join(random.choices("abcd", k=400)) for _ in range(60)]
    bar = data.honesty_bar(examples(*noise[:50]), examples(*noise[50:]), 1)["bits_per_byte"]
    assert 2.0 < bar < 2.1
    assert data.honesty_bar(examples("abcabc" * 200), examples("abc" * 100), 1)["bits_per_byte"] < 0.1
