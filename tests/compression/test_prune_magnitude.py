"""The smallest weights become zero, exactly as many as asked for, and recovery does not bring them back."""

import numpy as np
import pytest
import torch

from stages.compression import prune_magnitude
from stages.compression.prune_magnitude import choose
from stages.core.errors import ConfigError, Unsupported
from stages.models.checkpoint import load_model, save
from stages.models.encode import logits
from stages.schema.compression import NOfM, Unstructured

TWO_OF_FOUR = NOfM(kind="n_of_m", keep=2, of=4)


def matrices(model):
    kinds = (torch.nn.Linear, torch.nn.Embedding)
    return {name: module.weight for name, module in model.named_modules() if isinstance(module, kinds)}


def test_the_smallest_magnitudes_go_and_ties_do_not_take_more():
    weight = torch.tensor([[3.0, -1.0, 0.5, -4.0], [1.0, 1.0, 1.0, 9.0]])
    kept = choose(weight, Unstructured(kind="unstructured", sparsity=0.5), "w")
    assert int(kept.sum()) == 4
    assert kept[0].tolist()[0::2] == [1, 0]
    assert float(kept[0, 3] + kept[1, 3]) == 2


def test_two_of_every_four_neighbours_in_a_row_stay():
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.1, 9.0, 8.0, 7.0, 6.0]])
    assert choose(weight, TWO_OF_FOUR, "w").tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]


def test_rows_that_do_not_divide_are_refused_by_name():
    with pytest.raises(Unsupported, match=r"'encoder\.up' has rows of 6 weights, which no 4 divide"):
        choose(torch.ones(2, 6), TWO_OF_FOUR, "encoder.up")


@pytest.mark.parametrize(("conf", "share"), [("sparse", 0.6), ("sparse_2_of_4", 0.5)])
def test_zeros_hold_through_recovery_and_reloading(
    family, make_model, tokenizer, examples, settings, tmp_path, conf, share
):
    before = {name: weight.detach().clone() for name, weight in matrices(make_model(family)).items()}
    outcome = prune_magnitude.apply(make_model(family), tokenizer, examples, settings(conf))
    save(outcome.model, tokenizer, tmp_path)
    moved = 0
    for name, weight in matrices(load_model(tmp_path)).items():
        # At least: the padding token's row is zero before anything is pruned.
        assert share - 0.01 <= float((weight == 0).float().mean()) < share + 0.03, name
        moved += int((weight != 0).sum()) - int(((weight == before[name]) & (weight != 0)).sum())
    assert moved > 0
    assert outcome.removed["share_of_matrices"] == pytest.approx(share, abs=0.01)
    assert outcome.removed["zlib_bytes"] < 0.75 * outcome.removed["zlib_bytes_before"]


def test_recovery_brings_the_answers_back(make_model, tokenizer, examples, settings):
    wanted = logits(make_model("bert"), examples["validation"].encoded)

    def error(**training):
        outcome = prune_magnitude.apply(make_model("bert"), tokenizer, examples, settings("sparse", training))
        return float(np.abs(logits(outcome.model, examples["validation"].encoded) - wanted).mean())

    assert error(epochs=10.0, learning_rate=0.003) < 0.85 * error(learning_rate=1e-12)


def test_a_sparsity_that_removes_nothing_is_refused(make_model, tokenizer, examples, settings):
    tiny = settings("sparse", pattern={"kind": "unstructured", "sparsity": 1e-6})
    with pytest.raises(ConfigError, match="too small to remove a weight"):
        prune_magnitude.apply(make_model("bert"), tokenizer, examples, tiny)
