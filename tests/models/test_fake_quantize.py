"""Weights round as the targets' quantisers round them, gradients pass, and what is left is a plain checkpoint."""

import numpy as np
import pytest
import torch

from stages.models.fake_quantize import Grid, RoundedInput, RoundedWeight, round_between, rounding
from stages.models.families import find
from stages.models.folded import norm_gains

GRANULARITIES = ("tensor", "channel", "block_32")


def grid(**changes):
    plain = {"weight_bits": 8, "granularity": "tensor", "pairwise": False, "norms_folded": False}
    return Grid(**plain | {"activation_bits": None} | changes)


def weight(rows=24, columns=96, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) + 0.2


def rounded(values, gain=None, **changes):
    chosen = grid(**changes)
    return RoundedWeight(values, chosen, pairwise=chosen.pairwise, gain=gain)(values)


def utterance():
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("columns", [95, 96])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weights_round_as_onnx_cpu_rounds_them(granularity, columns):
    from stages.targets.onnx_cpu.integers import pairwise

    values = weight(columns=columns)
    integers, scale = pairwise(values.numpy().T, granularity == "channel")
    found = rounded(values, granularity=granularity, pairwise=True)
    np.testing.assert_allclose(found, (integers * scale).T, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weights_round_as_ai_edge_quantizer_rounds_them(bits, granularity):
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as uniform

    values, axis = weight().numpy(), None if granularity == "tensor" else 1
    kind = qtyping.QuantGranularity[{"tensor": "TENSORWISE", "channel": "CHANNELWISE"}[granularity]]
    ends = values.min(axis, keepdims=True), values.max(axis, keepdims=True)
    zero, scale = uniform.tensor_zp_scale_from_min_max(*ends, bits, True, kind)
    dimension = None if granularity == "tensor" else 0
    chosen = qtyping.UniformQuantParams(bits, dimension, scale.astype(np.float32), zero.astype(np.int32), True)
    expected = uniform.uniform_dequantize(uniform.uniform_quantize(values, chosen), chosen)
    found = rounded(weight(), weight_bits=bits, granularity=granularity)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_weights_round_as_coremltools_rounds_them(bits, granularity):
    from coremltools.converters.mil.mil import types
    from coremltools.optimize._utils import quantize_weight_by_dtype

    values = weight().numpy().reshape({"tensor": (1, -1), "channel": (24, 96), "block_32": (-1, 32)}[granularity])
    dtype = {4: types.int4, 8: types.int8}[bits]
    integers, scales, _ = quantize_weight_by_dtype(values, 1, dtype, "LINEAR_SYMMETRIC")
    expected = (integers * np.asarray(scales).reshape(-1, 1)).reshape(24, 96)
    found = rounded(weight(), weight_bits=bits, granularity=granularity)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_lies_on_the_grid_stays_there(granularity, pairwise):
    changes = {"weight_bits": 4, "granularity": granularity, "pairwise": pairwise}
    once = rounded(weight(columns=80), **changes)
    assert float((once - weight(columns=80)).abs().max()) > 0.01
    torch.testing.assert_close(rounded(once, **changes), once, rtol=0, atol=1e-6)


def test_a_folded_gain_moves_the_grid_to_where_the_product_is_rounded():
    gain = torch.linspace(0.2, 3, 96)
    expected = rounded(weight() * gain) / gain
    torch.testing.assert_close(rounded(weight(), gain=gain), expected, rtol=0, atol=1e-6)
    assert float((expected - rounded(weight())).abs().max()) > 1e-3


def test_zeros_stay_zeros_and_give_no_nan():
    values = weight()
    values[3], values[5, ::2] = 0, 0
    gain = torch.ones(96)
    gain[7] = 0
    for pairwise in (False, True):
        found = rounded(values, gain=gain, granularity="channel", pairwise=pairwise)
        assert bool(torch.isfinite(found).all())
        assert bool((found[values == 0] == 0).all())


def test_pruned_weights_stay_pruned_whatever_training_makes_of_them():
    pruned = weight()
    pruned[:, 0] = 0
    parametrised = RoundedWeight(pruned, grid(), pairwise=False, gain=None)
    assert bool((parametrised(pruned + 1)[:, 0] == 0).all())


def test_gradients_pass_straight_through_the_rounding():
    values = weight().requires_grad_()
    factors = weight(seed=1)
    (rounded(values) * factors).sum().backward()
    step = values.abs().argmax()  # which also gets the gradient of the step
    others = torch.arange(values.numel()) != step
    torch.testing.assert_close(values.grad.reshape(-1)[others], factors.reshape(-1)[others])


def test_the_step_learns_what_its_rounding_cost():
    values = weight().requires_grad_()
    ((rounded(values) - values.detach()) ** 2).sum().backward()
    scaled = values.detach() / (values.detach().abs().max() / 127)
    error = 2 * (rounded(values) - values).detach()
    expected = (error * (scaled.round() - scaled)).sum() / 127 + error.reshape(-1)[values.abs().argmax()]
    found = values.grad.reshape(-1)[values.abs().argmax()] * values.reshape(-1)[values.abs().argmax()].sign()
    torch.testing.assert_close(found.detach(), expected, rtol=1e-3, atol=1e-6)


def test_clipped_values_have_no_gradient():
    values = torch.tensor([-3.0, 0.4, 9.0], requires_grad=True)
    found = round_between(values, torch.tensor(-1.0), torch.tensor(1.0), 2)
    assert found.tolist() == [-1.0, 0.0, 1.0]
    found.sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 0.0]


def test_an_input_s_range_follows_training_and_rests_in_evaluation():
    observer = RoundedInput(8)
    values = torch.tensor([-1.0, 0.3, 3.0])
    assert observer.eval()(values) is not None
    assert float(observer.high) == 0
    observer.train()(values)
    assert (float(observer.low), float(observer.high)) == (-1.0, 3.0)
    observer(values * 2)
    assert 3.0 < float(observer.high) < 3.1
    held = float(observer.high)
    observer.eval()(values * 100)
    assert float(observer.high) == held


def test_an_input_rounds_as_onnx_runtime_rounds_an_activation():
    from onnxruntime.quantization.quant_utils import QuantType, compute_scale_zp, quantize_nparray

    values = weight()
    low, high = (np.array(float(end), np.float32) for end in (values.min(), values.max()))
    zero, scale = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
    integers = quantize_nparray(QuantType.QUInt8.tensor_type, values.numpy(), scale, zero)
    expected = (integers.astype(np.float32) - zero.astype(np.float32)) * scale
    np.testing.assert_allclose(RoundedInput(8).train()(values), expected, rtol=0, atol=1e-6)


def test_what_is_left_is_a_plain_checkpoint_on_the_grid(family, make_model):
    model, untouched = make_model(family), make_model(family)
    with rounding(model, grid(weight_bits=4, granularity="channel", activation_bits=8)):
        inside = model(**utterance()).logits
    assert [type(module) for module in model.modules()] == [type(module) for module in untouched.modules()]
    assert model.state_dict().keys() == untouched.state_dict().keys()
    torch.testing.assert_close(model(**utterance()).logits, inside)
    assert not torch.allclose(inside, untouched(**utterance()).logits, atol=1e-3)
    table = model.get_input_embeddings().weight
    assert all(len(row.unique()) <= 15 for row in table)
    assert model.get_submodule(find(family).head).weight.requires_grad


def test_the_layers_behind_a_normalisation_are_found(make_model):
    model = make_model("bert")
    names = {module: name for name, module in model.named_modules()}
    found = sorted(names[layer].removeprefix("bert.encoder.layer.") for layer in norm_gains(model))
    expected = ("attention.self.key", "attention.self.query", "attention.self.value", "intermediate.dense")
    assert found == [f"{layer}.{name}" for layer in (0, 1) for name in expected]
    first = model.bert.encoder.layer[0]
    assert norm_gains(model)[first.intermediate.dense] is first.attention.output.LayerNorm.weight
