"""Costs are counted from the shapes that are there."""

import pytest

from stages.models import profile
from stages.models.blocks import blocks, remove_heads


def expected_macs(length):
    hidden, ffn, labels, layers = 32, 48, 4, 2
    per_layer = length * (4 * hidden * hidden + 2 * hidden * ffn) + 2 * length * length * hidden
    return layers * per_layer + hidden * hidden + hidden * labels


@pytest.mark.parametrize("length", [4, 12])
def test_macs_of_bert_are_its_matrix_products(make_model, length):
    assert profile.macs(make_model("bert"), length) == expected_macs(length)


def test_a_removed_head_takes_its_macs_and_parameters_along(make_model):
    model = make_model("bert")
    before, size = profile.parameters(model), blocks(model)[0].head_size
    remove_heads(model, {0: [2]})
    assert profile.macs(model, 8) == expected_macs(8) - 8 * 4 * 32 * size - 2 * 8 * 8 * size
    assert profile.parameters(model) == before - 4 * 32 * size - 3 * size


def test_macs_are_given_for_every_length_under_a_text_key(make_model):
    model = make_model("bert")
    assert profile.macs_by_length(model, [4, 8]) == {"4": expected_macs(4), "8": expected_macs(8)}
