"""The least important parts go, as many as asked for, and no layer is emptied."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages.compression import prune_structured
from stages.compression.prune_structured import choose_heads, choose_units
from stages.core.errors import ConfigError, Unsupported
from stages.models import profile
from stages.models.blocks import blocks
from stages.models.encode import logits
from stages.schema.compression import PruneStructured

CONF = yaml.safe_load((Path(__file__).resolve().parents[2] / "conf/compression/pruned.yaml").read_text())


def settings(**changes):
    training = CONF["recovery"]["training"] | {"epochs": 1.0, "batch_size": 32}
    quick = CONF | {"importance_utterances": 32, "recovery": CONF["recovery"] | {"training": training}}
    return PruneStructured.model_validate(quick | changes)


def scores(*rows):
    return [np.array(row, dtype=np.float64) for row in rows]


def test_the_least_important_heads_go_whatever_their_layer():
    assert choose_heads(scores([5, 1, 5, 5], [5, 5, 2, 3]), 0.375) == {0: [1], 1: [2, 3]}


def test_a_layer_with_small_scores_is_not_emptied_for_being_early():
    assert choose_heads(scores([0.01, 0.04], [3, 3]), 0.25) == {0: [0]}
    assert choose_heads(scores([0.03, 0.03, 0.03], [9, 1, 9]), 0.2) == {1: [1]}


def test_every_layer_keeps_a_head():
    assert choose_heads(scores([0, 0], [5, 5]), 0.5) == {0: [0], 1: [0]}


def test_more_heads_than_can_go_are_refused_with_the_limit():
    with pytest.raises(ConfigError, match=r"removes 3 of 4 heads.*expected at most 0\.5"):
        choose_heads(scores([1, 2], [3, 4]), 0.75)


def test_the_same_number_of_units_stays_everywhere_the_most_important_in_order():
    kept = choose_units([scores([4, 1, 3, 2]), scores([0, 9, 8, 7])], 0.5)
    assert kept == [[[0, 2]], [[1, 2]]]


@pytest.mark.parametrize(("fraction", "left"), [(0.7, 3), (0.75, 3), (0.09, 10), (0.99, 1)])
def test_shares_are_rounded_down(fraction, left):
    assert len(choose_units([scores(range(10))], fraction)[0][0]) == left


def test_shapes_shrink_and_the_notes_say_by_how_much(family, make_model, tokenizer, examples):
    model = make_model(family)
    before = profile.macs(model, 12)
    outcome = prune_structured.apply(model, tokenizer, examples, settings())
    parts = blocks(outcome.model)
    assert sum(block.heads for block in parts) == 2 * len(parts)
    assert all(ffn.up.out_features == ffn.down.in_features == 24 for block in parts for ffn in block.ffns)
    assert profile.macs(outcome.model, 12) < before
    assert outcome.removed["ffn_units_per_ffn"] == 24
    assert sum(map(len, outcome.removed["heads"].values())) == 2 * len(parts)
    assert not outcome.model.training
    assert [row.epoch for row in outcome.history][-1] == 1.0


def test_recovery_brings_the_answers_back_towards_the_unpruned_student(make_model, tokenizer, examples):
    wanted = logits(make_model("bert"), examples["validation"].encoded)

    def error(**training):
        recovery = settings().recovery
        recovery = recovery.model_copy(update={"training": recovery.training.model_copy(update=training)})
        outcome = prune_structured.apply(make_model("bert"), tokenizer, examples, settings(recovery=recovery))
        return float(np.abs(logits(outcome.model, examples["validation"].encoded) - wanted).mean())

    unrecovered = error(learning_rate=1e-12)
    assert error(epochs=10.0, learning_rate=0.003) < 0.7 * unrecovered


def test_pruning_is_repeatable(make_model, tokenizer, examples):
    first, second = (
        prune_structured.apply(make_model("bert"), tokenizer, examples, settings()).model.state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fractions_that_round_to_nothing_are_refused(make_model, tokenizer, examples):
    with pytest.raises(ConfigError, match="too small to remove anything"):
        prune_structured.apply(
            make_model("bert"), tokenizer, examples, settings(heads_fraction=0.01, ffn_fraction=0.01)
        )


def test_an_unknown_family_is_refused(make_model, tokenizer, examples):
    model = make_model("bert")
    model.config.model_type = "electra"
    with pytest.raises(Unsupported, match="cannot prune a 'electra' checkpoint"):
        prune_structured.apply(model, tokenizer, examples, settings())
