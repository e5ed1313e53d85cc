"""The least missed layers go, the rest computes as before, and the checkpoint reloads without them."""

import pytest
import torch

from stages.compression import prune_layers, prune_structured, share_layers
from stages.compression.prune_layers import choose, evenly, missed
from stages.core.errors import ConfigError, Unsupported
from stages.models.blocks import blocks
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.models.families import encoders, find


def test_the_least_missed_layers_go():
    assert choose([0.5, 0.1, 0.9, 0.2], 2) == [0, 2]
    assert choose([0.1, 0.1], 1) == [0]


@pytest.mark.parametrize(
    ("total", "count", "kept"), [(6, 2, [2, 5]), (4, 3, [0, 1, 3]), (2, 1, [1]), (3, 3, [0, 1, 2])]
)
def test_evenly_spaced_layers_end_with_the_last(total, count, kept):
    assert evenly(total, count) == kept


def test_a_layer_that_does_nothing_is_not_missed(make_model, examples):
    model = make_model("bert", num_hidden_layers=3)
    idle = model.bert.encoder.layer[1]
    before = model.bert.encoder.layer[0].output.LayerNorm
    for linear in (idle.attention.output.dense, idle.output.dense):
        linear.weight.data.zero_()
        linear.bias.data.zero_()
    # A normalisation of what the same one made already changes nothing; this one has to be the one before.
    for norm in (before, idle.attention.output.LayerNorm, idle.output.LayerNorm):
        norm.weight.data.fill_(1.0)
        norm.bias.data.zero_()
    encoded = examples["validation"].encoded
    wanted = logits(model, encoded)
    costs = missed(model, examples["train"])
    assert abs(costs[1]) < 1e-4 < min(abs(costs[0]), abs(costs[2]))
    assert (logits(model, encoded) == wanted).all()  # measuring leaves the model as it was


@pytest.mark.parametrize("single", [name for name in encoders() if not find(name).shares_layers])
def test_the_checkpoint_reloads_with_the_layers_that_are_left(
    single, make_model, tokenizer, examples, settings, tmp_path
):
    asked = settings("fewer_layers", by="evenly")
    model = make_model(single, **{find(single).layers: 3})
    last = blocks(model)[2].query.weight.detach().clone()
    outcome = prune_layers.apply(model, tokenizer, examples, asked)
    assert outcome.removed["layers"] == [1]
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert len(blocks(found)) == 2
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()
    assert torch.allclose(blocks(found)[1].query.weight, last, atol=0.1)


def test_pruned_heads_follow_their_layer(make_model, tokenizer, examples, settings, tmp_path):
    model = make_model("bert")
    model = prune_structured.apply(model, tokenizer, examples, settings("pruned", heads_fraction=0.25)).model
    heads = [block.heads for block in blocks(model)]
    outcome = prune_layers.apply(model, tokenizer, examples, settings("fewer_layers", by="evenly"))
    save(outcome.model, tokenizer, tmp_path)
    assert [block.heads for block in blocks(load_model(tmp_path))] == heads[1:]


def test_layers_that_share_weights_cannot_go_one_by_one(make_model, tokenizer, examples, settings):
    shared = share_layers.apply(make_model("bert"), tokenizer, examples, settings("shared")).model
    deep = make_model("bert", num_hidden_layers=3)  # the last one still has weights of its own
    halved = share_layers.apply(deep, tokenizer, examples, settings("shared_halves")).model
    for model in (shared, halved, make_model("albert")):
        with pytest.raises(Unsupported, match="layers share their weights"):
            prune_layers.apply(model, tokenizer, examples, settings("fewer_layers"))


def test_all_layers_cannot_go(make_model, tokenizer, examples, settings):
    with pytest.raises(ConfigError, match="count 2 removes all of 2 layers; expected below 2"):
        prune_layers.apply(make_model("bert"), tokenizer, examples, settings("fewer_layers", count=2))
