"""The search for a mixture, over a model of three matrices that is rounded in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.errors import ConversionError, InputError
from stages.schema.variant import Dynamic, Mixed
from stages.targets import mixing
from stages.targets.base import read_signature
from stages.tasks import registry as tasks
from tests.targets.running import sign

SIZES = {"wide": 4096, "narrow": 64, "useless": 0}
STEPS = {"low": 0.5, "high": 0.01}


class Rounded:
    """Logits of one embedding row times three matrices, each rounded to its own step."""

    label, batches = "numpy", False

    def __init__(self, steps):
        random = np.random.default_rng(0)
        matrices = {name: random.normal(0, scale, (8, 8)) for name, scale in zip(SIZES, (1, 3, 1), strict=True)}
        self.matrices = [
            np.rint(matrix / steps[name]) * steps[name] if steps.get(name) else matrix
            for name, matrix in matrices.items()
        ]
        self.table = random.normal(size=(16, 8))

    def run(self, call, inputs):
        row = self.table[inputs["input_ids"][0]].mean(axis=0, keepdims=True)
        for matrix in self.matrices:
            row = np.tanh(row @ matrix)
        return {"logits": 4 * row.astype(np.float32)}


def choose(tmp_path, budget, rows=32):
    precision = Mixed(
        kind="mixed",
        low=Dynamic(kind="dynamic", weight_bits=4, granularity="channel"),
        high=Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
        among="all",
        kl_budget=budget,
        utterances=16,
    )
    built = {}

    def lower(low, out):
        built[out] = Rounded({name: STEPS["low" if name in low else "high"] for name in SIZES})
        return 10_000 - sum(SIZES[name] for name in low)

    ids = np.random.default_rng(1).integers(0, 16, (rows, 5)).astype(np.int32)
    calibration = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    sign(tmp_path, 5)

    def opened(directory, threads):
        assert (read_signature(directory).sequence_lengths, threads) == ([5], 1)
        return built.get(directory, Rounded({}))

    return mixing.choose(list(SIZES), precision, calibration, tmp_path, lower, opened)


def test_every_weight_is_measured_alone_and_the_most_sensitive_stands_first(tmp_path):
    found = choose(tmp_path, 0.05)
    assert {weight["name"] for weight in found["weights"]} == set(SIZES)
    alone = [weight["kl_divergence_mean"] for weight in found["weights"]]
    assert alone == sorted(alone, reverse=True)
    assert found["utterances"] == 16


def test_the_mixture_is_within_the_budget_and_cheaper_than_all_high(tmp_path):
    found = choose(tmp_path, 0.09)
    assert found["low"] == ["wide"]
    assert found["all_high"]["kl_divergence_mean"] < found["chosen"]["kl_divergence_mean"] <= 0.09
    assert found["chosen"]["size_bytes"] == 10_000 - 4096
    assert found["all_low"]["kl_divergence_mean"] > 0.09


def test_a_lesser_bargain_is_taken_where_the_best_is_too_much(tmp_path):
    found = choose(tmp_path, 0.05)
    assert found["low"] == ["narrow"]
    assert found["chosen"]["kl_divergence_mean"] <= 0.05


def test_a_wide_budget_lowers_all_that_saves_bytes(tmp_path):
    found = choose(tmp_path, 10)
    assert found["low"] == ["narrow", "wide"]
    assert found["chosen"] == found["all_low"]
    assert {weight["name"] for weight in found["weights"] if weight["precision"] == "high"} == {"useless"}


def test_a_budget_below_the_high_precision_itself_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="the high precision alone diverges by .* expected a kl_budget above"):
        choose(tmp_path, 1e-9)


def test_texts_of_many_answers_are_asked_until_these_are_enough():
    mask = np.ones((20, 129), np.int32)  # each token but the first answers the one before
    for task, texts in {"generate": 4, "classify": 16}.items():
        assert len(mixing.sample({"attention_mask": mask}, tasks.exercise(task).case, 16)["attention_mask"]) == texts


def test_nothing_to_measure_on_is_refused(tmp_path):
    with pytest.raises(InputError, match="the calibration split is empty"):
        choose(tmp_path, 1, rows=0)
