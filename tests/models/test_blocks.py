"""Removing a part is the same as silencing it, in every family."""

import pytest
import torch

from stages.core.errors import InputError
from stages.models import profile
from stages.models.blocks import blocks, keep_ffn_units, remove_heads
from stages.models.families import find

IDS = torch.tensor([[2, 5, 12, 30, 3, 0, 0, 0], [2, 8, 20, 21, 22, 23, 24, 3]])


def answers(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits


def test_removing_heads_equals_zeroing_their_output(family, make_model):
    silenced, cut = make_model(family), make_model(family)
    block = blocks(silenced)[0]
    block.output.weight.data[:, block.head_size : 2 * block.head_size] = 0
    remove_heads(cut, {0: [1]})
    assert blocks(cut)[0].heads == 3
    assert {linear.out_features for linear in blocks(cut)[0].rows} == {3 * block.head_size * find(family).packed}
    torch.testing.assert_close(answers(cut), answers(silenced), rtol=0, atol=1e-5)


def test_a_head_and_a_unit_know_what_goes_with_them(family, make_model):
    model = make_model(family)
    before, parts = profile.parameters(model), blocks(model)
    head, units = parts[0].head_parameters, sum(ffn.unit_parameters for block in parts for ffn in block.ffns)
    remove_heads(model, {0: [1]})
    assert profile.parameters(model) == before - head
    keep_ffn_units(model, [[list(range(47)) for _ in block.ffns] for block in parts])
    assert profile.parameters(model) == before - head - units


def test_heads_removed_one_after_another_keep_their_original_numbers(make_model):
    at_once, stepwise = make_model(), make_model()
    remove_heads(at_once, {1: [0, 2]})
    remove_heads(stepwise, {1: [0]})
    remove_heads(stepwise, {1: [2]})
    assert stepwise.config.pruned_heads == {1: [0, 2]}
    assert (answers(at_once) == answers(stepwise)).all()


def test_removing_ffn_units_equals_zeroing_their_output(family, make_model):
    silenced, cut = make_model(family), make_model(family)
    for block in blocks(silenced):
        for ffn in block.ffns:
            ffn.down.weight.data[:, ::2] = 0
    keep_ffn_units(cut, [[list(range(1, 48, 2)) for _ in block.ffns] for block in blocks(cut)])
    assert getattr(cut.config, find(family).ffn_size) == 24
    torch.testing.assert_close(answers(cut), answers(silenced), rtol=0, atol=1e-5)


def test_a_checkpoint_with_fewer_ffn_units_loads_with_plain_transformers(family, make_model, tmp_path):
    from transformers import AutoModelForSequenceClassification

    model = make_model(family)
    keep_ffn_units(model, [[list(range(20)) for _ in block.ffns] for block in blocks(model)])
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert (answers(again) == answers(model)).all()


def test_ffns_of_different_size_are_refused_because_the_config_has_one_number(make_model):
    with pytest.raises(ValueError, match="same number of units"):
        keep_ffn_units(make_model(), [[[0, 1]], [[0]]])


def test_the_last_head_of_a_layer_stays(make_model):
    with pytest.raises(InputError, match="every head of layer 1"):
        remove_heads(make_model(), {1: [0, 1, 2, 3]})


def test_an_unknown_family_is_refused_with_the_known_ones(make_model):
    model = make_model()
    model.config.model_type = "deberta-v2"
    with pytest.raises(InputError, match="'deberta-v2'; expected one of: albert, bert, "):
        blocks(model)
