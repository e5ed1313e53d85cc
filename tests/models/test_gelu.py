"""GELUs are found, approximated and written out in every family, and a checkpoint says so."""

import pytest
import torch
from torch.nn.functional import gelu as exact
from transformers.activations import ACT2FN

from stages.core.errors import InputError, Unsupported
from stages.models import gelu
from stages.models.checkpoint import load_model, save

IDS = torch.tensor([[2, 5, 12, 30, 3, 0, 0, 0], [2, 8, 20, 21, 22, 23, 24, 3]])
VALUES = torch.cat([torch.linspace(-12, 12, 4801), torch.tensor([-1e20, -1e4, 1e4, 1e20])])


def answers(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits


def test_the_factored_form_is_the_tanh_form():
    torch.testing.assert_close(gelu.FactoredGelu()(VALUES), exact(VALUES, approximate="tanh"), rtol=1e-6, atol=1e-6)


def test_every_activation_of_transformers_that_is_a_gelu_is_known_as_one():
    for name in set(ACT2FN) - {"gelu_10", "xielu"}:  # a GELU that is cut at 10, and one with weights
        given = ACT2FN[name]
        near = [
            kinds
            for kinds, form in ((gelu.ERF, "none"), (gelu.TANH, "tanh"))
            if (given(VALUES) - exact(VALUES, approximate=form)).abs().max() < 1e-5
        ]
        assert [kinds for kinds in (gelu.ERF, gelu.TANH) if isinstance(given, kinds)] == near, name


def test_tanh_gelus_are_written_out_to_the_same_answers(make_model):
    model = make_model("albert")  # whose published models have them
    wanted = answers(model)
    assert gelu.factor(model)
    assert gelu.find(model, gelu.TANH) == []
    torch.testing.assert_close(answers(model), wanted, rtol=0, atol=1e-5)


def test_a_tanh_gelu_is_not_approximated_by_itself(make_model):
    with pytest.raises(Unsupported, match="no GELU that gelu_pytorch_tanh approximates: its activation is 'gelu_new'"):
        gelu.approximate(make_model("albert"), "gelu_pytorch_tanh")


def test_an_error_function_is_left_and_said(make_model):
    model = make_model("bert")
    wanted = answers(model)
    assert not gelu.factor(model)
    assert (answers(model) == wanted).all()


def test_an_approximated_checkpoint_reloads_as_it_answered(family, make_model, tokenizer, tmp_path):
    model, by = make_model(family), "quick_gelu" if family in ("albert", "electra") else "gelu_pytorch_tanh"
    if family == "mobilebert":  # a ReLU
        with pytest.raises(Unsupported, match="has no GELU that"):
            gelu.approximate(model, by)
        return
    paths = gelu.approximate(model, by)
    save(model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    assert paths
    assert gelu.find(found, gelu.ERF) == []
    assert all(isinstance(found.get_submodule(path), type(ACT2FN[by])) for path in paths)
    assert (answers(found) == answers(model)).all()
    assert (answers(found) != answers(make_model(family))).any()
    assert 0 < (answers(found) - answers(make_model(family))).abs().max() < answers(model).std() / 4
    assert gelu.factor(found)  # so that no GELU is left


def test_what_the_config_has_no_field_for_is_recorded(make_model):
    model = make_model("electra")
    gelu.approximate(model, "quick_gelu")
    assert (model.config.hidden_act, model.config.replaced_activations) == (
        "quick_gelu",
        {"classifier.activation": "quick_gelu"},
    )


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"bert.nowhere": "relu"}, "a module of the checkpoint"),
        ({"bert.pooler.dense": "relu"}, "is a Linear"),
        ({"": "relu"}, "which has no weights"),
        ({"bert.pooler.activation": "magic"}, "{module: activation}"),
        (["relu"], "{module: activation}"),
    ],
)
def test_a_checkpoint_with_another_record_of_activations_is_refused(recorded, message, make_model, tokenizer, tmp_path):
    model = make_model("bert")
    model.config.replaced_activations = recorded
    save(model, tokenizer, tmp_path)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_family_that_cannot_have_it_is_named(make_model):
    model = make_model("bert")
    model.config.model_type = "opt"
    model.config.activation_function = "gelu"
    with pytest.raises(Unsupported, match="a 'opt' cannot have the activation 'quick_gelu'"):
        gelu.approximate(model, "quick_gelu")
