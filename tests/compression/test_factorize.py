"""Factors are the best of their rank for what the matrices see; at full rank nothing changes."""

import numpy as np
import pytest
import torch

from stages.compression import factorize
from stages.compression.factorize import embedding_factors, factors
from stages.core.errors import ConfigError, InputError, Unsupported
from stages.models import profile
from stages.models.blocks import blocks
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.models.reshape import lower_rank


def covariance(size, seed=0, strength=None):
    torch.manual_seed(seed)
    inputs = torch.randn(500, size, dtype=torch.float64) * (strength if strength is not None else 1.0)
    return inputs, inputs.T @ inputs


def test_at_full_rank_the_product_is_the_matrix():
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    outer, inner = factors(weight, covariance(5)[1], 5)
    torch.testing.assert_close(outer @ inner, weight, rtol=0, atol=1e-5)


def test_what_the_inputs_never_show_is_given_up_first():
    weight = torch.tensor([[9.0, 0.0], [0.0, 1.0]])
    inputs, seen = covariance(2, strength=torch.tensor([0.01, 5.0]))
    outer, inner = factors(weight, seen, 1)
    product = (outer @ inner).double()
    error = (inputs @ (weight.double() - product).T).norm()
    plain = torch.diag(torch.tensor([9.0, 0.0], dtype=torch.float64))  # what SVD without the inputs keeps
    assert error < 0.1 * (inputs @ (weight.double() - plain).T).norm()


def test_rows_that_are_read_often_are_kept_best():
    table = torch.eye(3) + 0.01
    often = embedding_factors(table, torch.tensor([0.0, 1000.0, 1000.0]), 2)
    error = (table - often[0] @ often[1]).norm(dim=1)
    assert float(error[0]) > 10 * float(error[1:].max())


def test_at_full_rank_the_logits_are_the_same(family, make_model, examples):
    model, encoded = make_model(family), examples["validation"].encoded
    wanted = logits(model, encoded)
    parts = [part for block in blocks(model) for part in (block.query, block.ffns[0].down)]
    modules = {path: m for path, m in model.named_modules() if m in [*parts, model.get_input_embeddings()]}
    seen = factorize.covariances(model, modules, examples["train"])
    ranks = {path: min(module.weight.shape) for path, module in modules.items()}
    lower_rank(model, ranks)
    for path, module in modules.items():
        assert factorize._fill(model.get_submodule(path), module, seen[path], ranks[path]) < 1e-4
    np.testing.assert_allclose(logits(model, encoded), wanted, rtol=0, atol=2e-5 * float(np.abs(wanted).max()))


def test_every_asked_matrix_shrinks_and_reloads(family, make_model, tokenizer, examples, settings, tmp_path):
    model = make_model(family)
    before = profile.parameters(model)
    outcome = factorize.apply(model, tokenizer, examples, settings("low_rank", embedding_rank=8, linear_rank=8))
    save(outcome.model, tokenizer, tmp_path)
    found = load_model(tmp_path)
    encoded = examples["validation"].encoded
    assert (logits(found, encoded) == logits(outcome.model, encoded)).all()
    assert profile.parameters(found) < before
    assert set(outcome.removed["ranks"].values()) == {8}
    assert found.get_input_embeddings().weight.shape[1] == 8
    assert all(0 < error < 1 for error in outcome.removed["relative_errors"].values())


def test_recovery_moves_both_factors_and_may_be_left_out(make_model, tokenizer, examples, settings):
    asked = settings("low_rank", embedding_rank=8, linear_rank=8)
    learnt = factorize.apply(make_model("bert"), tokenizer, examples, asked)
    fitted = factorize.apply(make_model("bert"), tokenizer, examples, asked.model_copy(update={"recovery": None}))
    assert learnt.history
    assert fitted.history == []
    before, after = fitted.model.state_dict(), learnt.model.state_dict()
    for name in (
        "query.inner.weight",
        "query.outer.weight",
        "word_embeddings.weight",
        "word_embeddings.project.weight",
    ):
        moved = [not torch.equal(before[path], after[path]) for path in before if path.endswith(name)]
        assert moved
        assert all(moved)


def test_ranks_that_shrink_nothing_are_refused(make_model, tokenizer, examples, settings):
    with pytest.raises(ConfigError, match="ranks 32 and None make no matrix smaller"):
        factorize.apply(make_model("bert"), tokenizer, examples, settings("low_rank", embedding_rank=32))


def test_a_layer_of_low_rank_has_no_heads_to_prune(make_model, tokenizer, examples, settings):
    model = factorize.apply(make_model("bert"), tokenizer, examples, settings("low_rank", linear_rank=8)).model
    with pytest.raises(Unsupported, match="is of low rank"):
        blocks(model)


@pytest.mark.parametrize("recorded", [{"bert.nowhere": 3}, {"bert.embeddings.LayerNorm": 3}, [3], {"x": "y"}])
def test_a_checkpoint_with_another_record_of_ranks_is_refused(recorded, make_model, tokenizer, tmp_path):
    model = make_model("bert")
    model.config.low_rank = recorded
    save(model, tokenizer, tmp_path)
    with pytest.raises(InputError, match=r"low_rank|LayerNorm"):
        load_model(tmp_path)
