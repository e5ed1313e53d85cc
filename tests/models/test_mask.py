"""The calibrated mask constant hides padding, and one that does not is noticed."""

import numpy as np
import pytest
import torch

from stages.core.errors import InputError
from stages.models import mask
from stages.models.blocks import blocks
from stages.models.encode import Encoded, logits
from stages.models.export import ExportModule
from stages.tasks.classify.model import items

PAD = 0


@pytest.fixture
def encoded():
    random = np.random.default_rng(0)
    lengths = random.integers(3, 13, 32)
    present = np.arange(12) < lengths[:, None]
    return Encoded(
        np.where(present, random.integers(5, 49, present.shape), PAD).astype(np.int32), present.astype(np.int32), 0
    )


def test_the_export_module_with_the_calibrated_constant_equals_the_stock_forward(family, make_model, encoded):
    model = make_model(family)
    found = mask.calibrate(model, encoded, items, PAD)
    stock = logits(model, encoded, batch_size=1)
    exported = mask.export_logits(ExportModule(model, found.constant).eval(), encoded)
    assert np.abs(exported - stock).max() <= mask.AGREEMENT_TOLERANCE * stock.std()
    assert found.leak <= mask.LEAK_TOLERANCE


def test_the_constant_is_one_rung_above_the_smallest_that_hides_padding(make_model, encoded):
    model = make_model()
    found = mask.calibrate(model, encoded, items, PAD)
    smallest = mask.LADDER[mask.LADDER.index(found.constant) - 1]
    too_small = mask.LADDER[mask.LADDER.index(smallest) - 1]
    disturbed = mask.disturb_padding(model.config, encoded, PAD, seed=0)
    spread = logits(model, encoded).std()

    def leak(constant):
        module = ExportModule(model, constant).eval()
        return np.abs(mask.export_logits(module, encoded) - mask.export_logits(module, disturbed)).max() / spread

    assert leak(smallest) <= mask.LEAK_TOLERANCE < leak(too_small)


def test_wider_attention_scores_need_a_larger_constant(make_model, encoded):
    model = make_model()
    before = mask.calibrate(model, encoded, items, PAD).constant
    for block in blocks(model):
        block.query.weight.data *= 8
    assert mask.calibrate(model, encoded, items, PAD).constant > before


def test_scores_that_no_constant_on_the_ladder_covers_are_refused(make_model, encoded):
    model = make_model()
    for block in blocks(model):
        block.query.weight.data *= 1e6
    with pytest.raises(InputError, match="no mask constant up to 32768 hides padding"):
        mask.calibrate(model, encoded, items, PAD)


@pytest.mark.parametrize("broken", [0.0, float("nan")])
def test_a_checkpoint_whose_logits_say_nothing_is_refused(broken, make_model, encoded):
    model = make_model()
    model.classifier.weight.data.fill_(broken)
    model.classifier.bias.data.fill_(broken)
    with pytest.raises(InputError, match="spread"):
        mask.calibrate(model, encoded, items, PAD)


def test_calibration_is_repeatable(make_model, encoded):
    assert mask.calibrate(make_model(), encoded, items, PAD) == mask.calibrate(make_model(), encoded, items, PAD)


def test_only_ids_under_the_mask_are_disturbed(family, make_model, encoded):
    disturbed = mask.disturb_padding(make_model(family).config, encoded, PAD, seed=0)
    present = encoded.attention_mask == 1
    assert (disturbed.input_ids[present] == encoded.input_ids[present]).all()
    first_padding = np.pad(present, ((0, 0), (1, 0)))[:, :-1] & ~present
    changed = (disturbed.input_ids != PAD) & ~present
    assert changed[~present & ~first_padding].all()
    assert changed[first_padding].all() == (family != "mobilebert")


def test_a_padding_embedding_that_reaches_into_the_text_is_zeroed(make_model, encoded):
    model = make_model("mobilebert")
    model.get_input_embeddings().weight.data[PAD] = 1.0
    with pytest.raises(InputError, match="no mask constant"):
        mask.calibrate(model, encoded, items, PAD)
    assert mask.neutralise_padding(model, PAD)
    assert not mask.neutralise_padding(model, PAD)
    mask.calibrate(model, encoded, items, PAD)


def test_a_padding_embedding_that_the_mask_hides_is_left_alone(make_model):
    model = make_model("bert")
    model.get_input_embeddings().weight.data[PAD] = 1.0
    assert not mask.neutralise_padding(model, PAD)
    assert torch.all(model.get_input_embeddings().weight[PAD] == 1.0)
