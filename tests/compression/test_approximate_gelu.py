"""A GELU's approximation is measured on validation, and may be recovered."""

import pytest

from stages.compression import approximate_gelu
from stages.core.errors import Unsupported
from stages.models import gelu
from tests.composed import composed


def test_its_cost_is_measured_and_the_tanh_form_is_the_closer_one(make_model, tokenizer, examples, settings):
    found = {
        name: approximate_gelu.apply(make_model("electra"), tokenizer, examples, settings(name))
        for name in ("gelu_as_sigmoid", "gelu_as_tanh")
    }
    for outcome in found.values():
        notes = outcome.removed
        assert notes["activations"] == gelu.find(outcome.model, gelu.TANH) or not gelu.find(outcome.model, gelu.TANH)
        assert len(notes["activations"]) == 3
        low, high = notes["agreement_interval"]
        assert low <= notes["agreement"] <= high
        assert outcome.history == []
    coarse, close = (outcome.removed["relative_max_error"] for outcome in found.values())
    assert 0 < 4 * close < coarse < 1
    assert (
        0
        < 16 * found["gelu_as_tanh"].removed["kl_divergence_mean"]
        < found["gelu_as_sigmoid"].removed["kl_divergence_mean"]
    )


def test_it_learns_back_what_it_lost_where_asked_to(make_model, tokenizer, examples, settings):
    recovery = composed()["compressions"]["sparse"]["recovery"]
    recovery["training"]["epochs"] = 1.0
    outcome = approximate_gelu.apply(
        make_model("bert"), tokenizer, examples, settings("gelu_as_sigmoid", recovery=recovery)
    )
    assert outcome.history
    assert "validation_accuracy_recovered" in outcome.removed


def test_a_model_without_gelu_is_refused(make_model, tokenizer, examples, settings):
    with pytest.raises(Unsupported, match="no GELU that quick_gelu approximates: its activation is 'relu'"):
        approximate_gelu.apply(make_model("mobilebert"), tokenizer, examples, settings("gelu_as_sigmoid"))
