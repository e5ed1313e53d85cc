"""All layers are one, stored once, and stay one through recovery and reloading."""

import pytest
import torch
from safetensors.torch import load_file

from stages.compression import prune_structured, share_layers
from stages.core.errors import ConfigError, Unsupported
from stages.models import profile
from stages.models.blocks import blocks
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits


@pytest.fixture(params=["bert", "distilbert"])
def sharing(request):
    return request.param


def layers(model):
    return model.distilbert.transformer.layer if hasattr(model, "distilbert") else model.bert.encoder.layer


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
    norm = 2 * found.config.hidden_size  # the one in front of the first layer is shared too
    assert profile.parameters(found) == before - own - norm
    assert sum(weight.numel() for weight in load_file(tmp_path / "model.safetensors").values()) == before - own - norm
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()
    assert outcome.removed["layers_sharing"] == 2


def test_a_pruned_checkpoint_shares_the_heads_its_first_layer_kept(make_model, tokenizer, examples, settings, tmp_path):
    pruned = prune_structured.apply(make_model("bert"), tokenizer, examples, settings("pruned"))
    kept = blocks(pruned.model)[0].heads
    outcome = share_layers.apply(pruned.model, tokenizer, examples, settings("shared"))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert [block.heads for block in blocks(found)] == [kept]
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()


@pytest.mark.parametrize(
    ("family", "message"), [("albert", "shares its layers already"), ("mobilebert", "cannot share")]
)
def test_other_families_are_refused(family, message, make_model, tokenizer, examples, settings):
    with pytest.raises(Unsupported, match=message):
        share_layers.apply(make_model(family), tokenizer, examples, settings("shared"))


def test_one_layer_has_nothing_to_share(make_model, tokenizer, examples, settings):
    with pytest.raises(ConfigError, match="the checkpoint has one layer"):
        share_layers.apply(make_model("bert", num_hidden_layers=1), tokenizer, examples, settings("shared"))
