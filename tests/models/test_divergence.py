"""A checkpoint that follows an artifact names the layer at fault, whatever the artifact's tensors are called."""

import copy

import numpy as np
import pytest
import torch

from stages.models.blocks import blocks
from stages.models.divergence import asked, follow, relative_error
from stages.models.families import find
from stages.models.intermediates import visit
from stages.models.trail import Bands, Tensor

BANDS = Bands(matrix=1e-4, rest=1e-4)
IDS = np.array([[2, 9, 30, 12, 41, 17, 25, 11, 3, 0, 0]], np.int32)
INPUTS = {"input_ids": IDS, "attention_mask": (IDS > 0).astype(np.int32)}


def path(model, module):
    return next(name for name, found in model.named_modules() if found is module)


def last_layer(model):
    return path(model, blocks(model)[-1].ffns[-1].down)


def computed(model, leave_out=()):
    """What an artifact would compute: other names, axes in another order, heads beside tokens."""
    tensors = []

    def keep(name, module, value):
        array = value.detach().numpy().copy()
        if name not in leave_out:
            tensors.append(Tensor("OP", f"t{len(tensors)}", np.ascontiguousarray(array.squeeze().T)))

    visit(model, asked(model, INPUTS), keep)
    return tensors


def divergence(model, artifact, **kept):
    return follow(model, INPUTS, computed(artifact, **kept), BANDS).divergence


def test_a_sound_artifact_diverges_nowhere(make_model, family):
    model = make_model(family)
    trail = follow(model, INPUTS, computed(model), BANDS)
    assert trail.divergence is None
    assert len(trail.steps) > 20
    assert max(step.error for step in trail.steps) < 1e-6


def test_a_zeroed_layer_is_named_with_the_errors_before_and_after(make_model, family):
    model = make_model(family)
    broken = copy.deepcopy(model)
    broken.get_submodule(last_layer(model)).weight.data.zero_()
    found = divergence(model, broken)
    assert found.at.module == last_layer(model)
    assert found.before.error < 1e-6 < BANDS.matrix < found.at.error
    assert found.operators[-1] == f"OP {found.at.tensor}"


def test_queries_and_keys_that_changed_places_are_both_named(make_model, family):
    if find(family).packed > 1:
        pytest.skip("queries and keys are one layer's, which is named as any other")
    model = make_model(family)
    broken = copy.deepcopy(model)
    query, key = blocks(broken)[0].query, blocks(broken)[0].key
    for part in ("weight", "bias"):
        one, other = getattr(query, part).data.clone(), getattr(key, part).data.clone()
        getattr(query, part).data, getattr(key, part).data = other, one
    found = divergence(model, broken)
    assert found.exchanged == (path(broken, query), path(broken, key))
    assert found.module == found.exchanged[0]


def test_a_layer_beside_the_broken_one_does_not_excuse_it(make_model):
    """Values are right where keys are zero: they were not computed from them."""
    model = make_model("bert")
    broken = copy.deepcopy(model)
    key = "bert.encoder.layer.0.attention.self.key"
    for parameter in broken.get_submodule(key).parameters():
        parameter.data.zero_()
    assert divergence(model, broken).at.module == key


def test_what_reaches_a_layer_is_told_from_what_it_computes(make_model):
    model = make_model("bert")
    model.bert.encoder.layer[0].attention.self.scaling *= 2
    found = divergence(make_model("bert"), model)
    assert found.at.module == "bert.encoder.layer.0.attention.self"
    model = make_model("bert")
    output = model.bert.encoder.layer[0].attention.output
    output.forward = lambda hidden_states, input_tensor: output.LayerNorm(output.dense(hidden_states))
    found = divergence(make_model("bert"), model)
    assert found.at.module == "input of bert.encoder.layer.0.attention.output.LayerNorm"


def test_a_layer_that_was_fused_away_is_no_divergence(make_model):
    model = make_model("bert")
    fused = [f"bert.encoder.layer.{layer}.intermediate.dense" for layer in (0, 1)]
    trail = follow(model, INPUTS, computed(model, leave_out=fused), BANDS)
    assert [step.module for step in trail.steps if not step.within] == fused
    assert trail.divergence is None


def test_positions_that_were_folded_are_no_divergence_and_wrong_ones_are(make_model):
    model = make_model("bert")
    folded = ["bert.embeddings.position_embeddings", "bert.embeddings.token_type_embeddings"]
    assert divergence(model, model, leave_out=folded) is None
    broken = copy.deepcopy(model)
    broken.bert.embeddings.position_embeddings.weight.data.copy_(
        model.bert.embeddings.position_embeddings.weight.data.roll(1, 0)
    )
    assert divergence(model, broken, leave_out=folded).at.module == "input of bert.embeddings.LayerNorm"


def test_numbers_that_are_none_diverge_where_they_arise(make_model):
    model = make_model("bert")
    broken = copy.deepcopy(model)
    broken.bert.encoder.layer[1].intermediate.dense.weight.data[3, 3] = torch.nan
    found = divergence(model, broken)
    assert found.at.module == "bert.encoder.layer.1.intermediate.dense"
    assert found.at.error == np.inf


def test_the_first_layer_has_nothing_before_it(make_model):
    model = make_model("bert")
    broken = copy.deepcopy(model)
    rows = broken.bert.embeddings.word_embeddings.weight.data
    rows[[9, 12]] = rows[[12, 9]]
    found = divergence(model, broken)
    assert found.at.module == "bert.embeddings.word_embeddings"
    assert found.before is None


def test_an_artifact_without_a_tensor_of_the_size_diverges_there(make_model):
    model = make_model("bert")
    at = follow(model, INPUTS, computed(model)[:-1], BANDS).divergence.at
    assert (at.module, at.operator, at.error) == ("classifier", "", np.inf)


@pytest.mark.parametrize(
    ("value", "error"), [([[4.0, 0], [0, 1]], 0), ([[4.0, 0], [0, 9]], 8 / 8.5**0.5), ([[4.0, 0], [np.nan, 1]], np.inf)]
)
def test_the_error_is_that_of_the_worst_position(value, error):
    expected = np.array([[4, 0], [0, 1]], np.float32)
    assert relative_error(np.array(value, np.float32), expected) == pytest.approx(error)


def test_a_wrong_token_is_charged_to_the_tensor_that_has_the_others_right(make_model):
    model = make_model("bert")
    broken = copy.deepcopy(model)
    rows = broken.bert.embeddings.word_embeddings.weight.data
    rows[[9, 12]] = rows[[12, 9]]
    assert divergence(model, broken).at.tensor == computed(broken)[0].name


def test_another_activation_inside_a_product_is_charged_to_the_activation(make_model):
    model, broken = make_model("bert"), make_model("bert", hidden_act="relu")
    fused = [f"bert.encoder.layer.{layer}.intermediate.dense" for layer in (0, 1)]
    found = divergence(model, broken, leave_out=fused)
    assert found.at.module == "bert.encoder.layer.0.intermediate.intermediate_act_fn"


def test_a_wrong_token_is_not_excused_by_the_classifier_that_does_not_read_it(make_model):
    model = make_model("bert")
    broken = copy.deepcopy(model)
    rows = broken.bert.embeddings.word_embeddings.weight.data
    rows[[9, 12]] = rows[[12, 9]]
    coarse = Bands(matrix=0.2, rest=0.4)
    trail = follow(model, INPUTS, computed(broken), coarse)
    assert any(step.within for step in trail.steps[3:])
    assert trail.divergence.at.module == "bert.embeddings.word_embeddings"
