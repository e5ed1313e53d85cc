"""The layers of a group are one, stored once, and stay one through recovery and reloading."""

import pytest
import torch
from safetensors.torch import load_file

from stages.compression import factorize, prune_structured, qat, share_layers
from stages.compression.share_layers import assign
from stages.core.errors import ConfigError, InputError, Unsupported
from stages.models import importance, profile
from stages.models.blocks import blocks, heads_left, pruned_heads, remove_heads
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.models.families import encoders, family_of, find


@pytest.fixture(params=[name for name in encoders() if find(name).last_norm])
def sharing(request):
    return request.param


def layers(model):
    return model.base_model.get_submodule(family_of(model.config).layer_list)


def deep(make_model, family="bert", layers=4):
    return make_model(family, **{find(family).layers: layers})


def norms_in_front(model):
    """Of the embeddings, where no projection stands between them and the layers."""
    return int(model.base_model.embeddings.LayerNorm.weight.numel() == model.config.hidden_size)


@pytest.mark.parametrize(
    ("total", "groups", "wanted"),
    [(4, 2, [0, 0, 1, 1]), (3, 2, [0, 0, 1]), (5, 3, [0, 0, 1, 1, 2]), (4, 1, [0] * 4), (7, 3, [0, 0, 0, 1, 1, 2, 2])],
)
def test_neighbours_share_and_groups_need_not_divide(total, groups, wanted):
    assert assign(total, groups) == wanted


def test_layers_stay_equal_through_recovery_and_are_stored_once(
    sharing, make_model, tokenizer, examples, settings, tmp_path
):
    model = make_model(sharing)
    before, own = profile.parameters(model), sum(weight.numel() for weight in layers(model)[1].parameters())
    start = blocks(model)[0].output.weight.detach().clone()
    outcome = share_layers.apply(model, tokenizer, examples, settings("shared"))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    first, second = (layer.state_dict() for layer in layers(found))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(start, blocks(found)[0].output.weight)
    norm = 2 * found.config.hidden_size * norms_in_front(found)
    assert profile.parameters(found) == before - own - norm
    assert sum(weight.numel() for weight in load_file(tmp_path / "model.safetensors").values()) == before - own - norm
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()
    assert outcome.removed["shared_layers"] == [0, 0]


def test_layers_of_a_group_are_equal_and_groups_differ(sharing, make_model, tokenizer, examples, settings, tmp_path):
    model = deep(make_model, sharing)
    before, own = profile.parameters(model), sum(weight.numel() for weight in layers(model)[1].parameters())
    starts = [blocks(model)[layer].query.weight.detach().clone() for layer in (0, 2)]
    idle = settings("shared_halves", {"learning_rate": 1e-12})
    outcome = share_layers.apply(model, tokenizer, examples, idle)
    assert all(torch.allclose(block.query.weight, start) for block, start in zip(blocks(model), starts, strict=True))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    one, same, other, last = (layer.state_dict() for layer in layers(found))
    assert all(torch.equal(one[name], same[name]) and torch.equal(other[name], last[name]) for name in one)
    # All but the normalisation in front of the layers, of which there is one.
    assert sum(torch.equal(one[name], other[name]) for name in one) == 2
    norms = 2 * found.config.hidden_size * (1 + norms_in_front(found))
    stored = sum(weight.numel() for weight in load_file(tmp_path / "model.safetensors").values())
    assert profile.parameters(found) == stored == before - 2 * own - norms
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()
    assert found.config.shared_layers == outcome.removed["shared_layers"] == [0, 0, 1, 1]


def test_recovery_moves_every_group(make_model, tokenizer, examples, settings):
    model = deep(make_model)
    starts = [blocks(model)[layer].output.weight.detach().clone() for layer in (0, 2)]
    found = share_layers.apply(model, tokenizer, examples, settings("shared_halves")).model
    first, second = (block.output.weight for block in blocks(found))
    assert not torch.equal(first, starts[0])
    assert not torch.equal(second, starts[1])
    assert layers(found)[2] is layers(found)[3]


def test_a_pruned_checkpoint_shares_the_heads_its_first_layer_kept(make_model, tokenizer, examples, settings, tmp_path):
    pruned = prune_structured.apply(make_model("bert"), tokenizer, examples, settings("pruned"))
    kept = blocks(pruned.model)[0].heads
    outcome = share_layers.apply(pruned.model, tokenizer, examples, settings("shared"))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert [block.heads for block in blocks(found)] == [kept]
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


def test_every_group_keeps_the_heads_its_first_layer_kept(sharing, make_model, tokenizer, examples, settings, tmp_path):
    model = deep(make_model, sharing)
    remove_heads(model, {0: [1], 1: [0, 1, 2], 2: [0, 3], 3: [2]})
    outcome = share_layers.apply(model, tokenizer, examples, settings("shared_halves"))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert pruned_heads(found.config) == {0: [1], 1: [0, 3]}
    assert [block.heads for block in blocks(found)] == [3, 2]
    assert heads_left(found, 1) == [1, 2]
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


def test_groups_are_pruned_as_one_block_each(make_model, tokenizer, examples, settings, tmp_path):
    shared = share_layers.apply(deep(make_model), tokenizer, examples, settings("shared_halves")).model
    assert len(importance.measure(shared, examples["validation"])) == 2
    outcome = prune_structured.apply(shared, tokenizer, examples, settings("pruned"))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert sum(block.heads for block in blocks(found)) == 4
    assert set(outcome.removed["heads"]) <= {"0", "1"}
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


@pytest.mark.parametrize(
    ("step", "conf", "changes"),
    [(factorize, "low_rank", {"embedding_rank": 8, "linear_rank": 8}), (qat, "qat", {"norms_folded": True})],
)
def test_groups_stay_shared_through_what_comes_after(
    step, conf, changes, make_model, tokenizer, examples, settings, tmp_path
):
    shared = share_layers.apply(deep(make_model), tokenizer, examples, settings("shared_halves")).model
    outcome = step.apply(shared, tokenizer, examples, settings(conf, **changes))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert len(dict.fromkeys(layers(found))) == 2
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


@pytest.mark.parametrize(
    ("family", "message"), [("albert", "shares its layers already"), ("mobilebert", "cannot share")]
)
def test_other_families_are_refused(family, message, make_model, tokenizer, examples, settings):
    with pytest.raises(Unsupported, match=message):
        share_layers.apply(make_model(family), tokenizer, examples, settings("shared"))


@pytest.mark.parametrize(("total", "groups"), [(1, 1), (2, 2), (2, 5)])
def test_as_many_groups_as_layers_share_nothing(total, groups, make_model, tokenizer, examples, settings):
    with pytest.raises(ConfigError, match=f"groups {groups} of {total} layers share nothing; expected fewer groups"):
        share_layers.apply(deep(make_model, layers=total), tokenizer, examples, settings("shared", groups=groups))


def test_layers_that_share_already_are_refused(make_model, tokenizer, examples, settings):
    shared = share_layers.apply(deep(make_model), tokenizer, examples, settings("shared_halves")).model
    with pytest.raises(Unsupported, match="a 'bert' checkpoint shares its layers already"):
        share_layers.apply(shared, tokenizer, examples, settings("shared"))


@pytest.mark.parametrize(
    "recorded",
    [
        *(True, False, [], {}, "0011", [0, 0, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 2, 2]),
        *([0, 1, 2, 3], [0, 0, 0.5, 1], [False, False, True, True], [0, 0, None, 1], ["0", "0", "1", "1"]),
    ],
)
def test_a_checkpoint_with_another_record_of_groups_is_refused(recorded, make_model, tokenizer, tmp_path):
    model = deep(make_model)
    model.config.shared_layers = recorded
    save(model, tokenizer, tmp_path)
    with pytest.raises(InputError, match=r"shared_layers .*; expected groups of 4 layers"):
        load_model(tmp_path)


def test_a_record_of_groups_that_does_not_fit_the_weights_is_refused(
    make_model, tokenizer, examples, settings, tmp_path
):
    shared = share_layers.apply(deep(make_model), tokenizer, examples, settings("shared_halves")).model
    shared.config.shared_layers = [0, 0, 0, 0]
    save(shared, tokenizer, tmp_path)
    with pytest.raises(InputError, match="layer.0.*. and .*layer.2.* for one weight"):
        load_model(tmp_path)
