"""Importance ranks what matters, whatever the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.models import importance
from stages.models.blocks import blocks


@pytest.fixture
def examples(read_examples):
    return read_examples("train", 12)


def test_a_part_whose_output_goes_nowhere_has_importance_zero(family, make_model, examples):
    model = make_model(family)
    block = blocks(model)[0]
    block.output.weight.data[:, : block.head_size] = 0
    for ffn in block.ffns:
        ffn.down.weight.data[:, 7] = 0
    found = importance.measure(model, importance.sample(examples, 16))[0]
    assert found.heads[0] == 0
    assert (found.heads[1:] > 0).all()
    assert len(found.ffns) == len(block.ffns)
    assert all(ffn.shape == (48,) and ffn[7] == 0 for ffn in found.ffns)


def test_importance_is_activation_times_gradient_of_each_utterance(make_model, examples):
    model, one = make_model("bert"), importance.sample(examples, 1)
    block, seen = blocks(model)[1], []
    handle = block.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    width = int(one.encoded.lengths[0])
    ids = torch.from_numpy(one.encoded.input_ids[:, :width].astype(np.int64))
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits, torch.from_numpy(one.labels))
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, seen)
    expected = (seen[0] * gradient).reshape(width, 4, block.head_size).sum(dim=(0, 2)).abs()
    np.testing.assert_allclose(importance.measure(model, one)[1].heads, expected.detach().numpy(), rtol=1e-4)


def test_importance_does_not_depend_on_the_batch_size(make_model, examples, monkeypatch):
    model = make_model("bert")
    at_once = importance.measure(model, examples)
    monkeypatch.setattr(importance, "BATCH_SIZE", 7)
    in_parts = importance.measure(model, examples)
    for one, other in zip(at_once, in_parts, strict=True):
        np.testing.assert_allclose(one.heads, other.heads, rtol=1e-3)
        np.testing.assert_allclose(one.ffns[0], other.ffns[0], rtol=1e-2, atol=1e-6)


def test_a_sample_spans_the_whole_split(examples):
    marked = replace(examples, wanted=np.arange(len(examples)))
    assert importance.sample(marked, 5).labels.tolist() == [0, 24, 48, 71, 95]
    assert len(importance.sample(marked, 1000).labels) == 96
