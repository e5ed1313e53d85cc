"""The least important parts go, as many as asked for, and no layer is emptied."""

import numpy as np
import pytest
import torch

from stages.compression import prune_structured
from stages.compression.prune_structured import Cut, choose_cuts, choose_heads, choose_units, list_cuts
from stages.core.errors import ConfigError, InputError
from stages.models import profile
from stages.models.blocks import blocks, pruned_heads
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.models.importance import Importance
from stages.schema.compression import PruneStructured
from tests.composed import composed


def settings(**changes):
    quick = composed()["compressions"]["pruned"] | {"importance_utterances": 32}
    quick["recovery"]["training"] |= {"epochs": 1.0, "min_steps": 1, "batch_size": 32}
    return PruneStructured.model_validate(quick | changes)


def within(budget):
    return settings(heads_fraction=None, ffn_fraction=None, parameters=budget)


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


def test_what_costs_least_per_parameter_goes_first():
    cheap, dear, large = Cut(1.0, 10, (0, 0)), Cut(3.0, 10, None), Cut(4.0, 100, (1, 0))
    assert choose_cuts([dear, cheap, large], 200, 150) == [large]
    assert choose_cuts([dear, cheap, large], 200, 95) == [large, cheap]
    assert choose_cuts([dear, cheap, large], 200, 80) == [large, cheap, dear]


def test_what_a_large_step_makes_needless_stays():
    units, head = [Cut(cost, 10, None) for cost in (1.0, 2.0, 3.0)], Cut(50.0, 100, (0, 0))
    assert choose_cuts([*units, head], 200, 170) == units
    assert choose_cuts([*units, head], 200, 85) == [units[0], units[1], head]
    assert choose_cuts([*units, head], 200, 105) == [head]


def test_the_strongest_head_of_a_block_and_unit_of_an_ffn_cannot_go(make_model):
    model = make_model("bert")
    found = [Importance(row, (np.arange(48.0),)) for row in scores([4, 1, 3, 2], [1, 1, 2, 2])]
    cuts = list(list_cuts(found, blocks(model)))
    assert [cut.head for cut in cuts if cut.head] == [(0, 1), (0, 3), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [cut.cost for cut in cuts if cut.head] == [1, 4, 9, 1, 1, 4]
    assert [cut.cost for cut in cuts if not cut.head] == [2 * unit**2 for unit in range(47)]
    assert {cut.freed for cut in cuts if cut.head} == {4 * 32 * 8 + 3 * 8}
    assert {cut.freed for cut in cuts if not cut.head} == {2 * (2 * 32 + 1)}


def test_many_small_changes_of_the_loss_weigh_less_than_their_sum(make_model):
    found = [Importance(np.full(4, 0.4), (np.full(48, 0.03),)) for _ in range(2)]
    model = make_model("bert")
    cuts = list(list_cuts(found, blocks(model)))
    size = profile.parameters(model)
    # Per parameter a head's 0.4 is less than the sum of two units' 0.03, and more as a square.
    assert not any(cut.head for cut in choose_cuts(cuts, size, size - 40 * 130))


def test_a_budget_that_is_met_already_is_refused(make_model, tokenizer, examples):
    model = make_model("bert")
    size = profile.parameters(model)
    with pytest.raises(ConfigError, match=f"the checkpoint's {size} parameters fit {size} already; expected below"):
        prune_structured.apply(model, tokenizer, examples, within(size))


def test_a_budget_out_of_reach_is_refused_with_the_least_that_is(family, make_model, tokenizer, examples):
    model = make_model(family)
    cuts = list(list_cuts(prune_structured.importance.measure(model, examples["train"]), blocks(model)))
    least = profile.parameters(model) - sum(cut.freed for cut in cuts)
    with pytest.raises(ConfigError, match=f"{least - 1} is out of reach.*expected at least {least}"):
        prune_structured.apply(model, tokenizer, examples, within(least - 1))
    outcome = prune_structured.apply(model, tokenizer, examples, within(least))
    assert profile.parameters(outcome.model) == least
    assert {block.heads for block in blocks(outcome.model)} == {1}
    assert {ffn.down.in_features for block in blocks(outcome.model) for ffn in block.ffns} == {1}


def test_the_model_fits_the_budget_by_less_than_a_unit_and_reloads(family, make_model, tokenizer, examples, tmp_path):
    """A small cut of some families and a large one of the others: what is chosen asks for costs alone."""
    share = 0.95 if family in ("albert", "bert", "mobilebert") else 0.7
    model = make_model(family)
    size = profile.parameters(model)
    cuts = list(list_cuts(prune_structured.importance.measure(model, examples["train"]), blocks(model)))
    budget = size - int((1 - share) * sum(cut.freed for cut in cuts))
    outcome = prune_structured.apply(model, tokenizer, examples, within(budget))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    reached = profile.parameters(found)
    assert budget - min(cut.freed for cut in cuts) < reached <= budget
    assert outcome.removed["parameters_budget"] == budget
    assert outcome.removed["parameters"] == reached
    assert pruned_heads(found.config) == {int(layer): gone for layer, gone in outcome.removed["heads"].items()}
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


def test_shapes_shrink_and_the_notes_say_by_how_much(family, make_model, tokenizer, examples):
    model = make_model(family)
    before = profile.macs(model, 12)
    outcome = prune_structured.apply(model, tokenizer, examples, settings())
    parts = blocks(outcome.model)
    assert sum(block.heads for block in parts) == 2 * len(parts)
    assert {ffn.down.in_features for block in parts for ffn in block.ffns} == {24}
    assert {up.out_features for block in parts for ffn in block.ffns for up in ffn.rows} == {
        24 * len(parts[0].ffns[0].rows)
    }
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
    model.config.model_type = "deberta-v2"
    with pytest.raises(InputError, match="of family .deberta-v2."):
        prune_structured.apply(model, tokenizer, examples, settings())
