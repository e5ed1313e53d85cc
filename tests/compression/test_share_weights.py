"""Few distinct values, placed where the loss feels them, held through recovery and reloading."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.compression import share_weights
from stages.compression.share_weights import cluster, sensitivity
from stages.core.errors import ConfigError
from stages.models.checkpoint import load_model, save
from stages.models.importance import sample


def distinct(matrix):
    return len(matrix.unique())


def test_centroids_are_the_weighted_means_of_what_is_nearest():
    values, weights = np.array([0.0, 1.0, 10.0, 12.0]), np.array([3.0, 1.0, 1.0, 1.0])
    centroids, places = cluster(values, weights, 2)
    np.testing.assert_allclose(centroids, [0.25, 11.0])
    assert places.tolist() == [0, 0, 1, 1]


def test_what_is_felt_more_is_moved_less():
    random = np.random.default_rng(0)
    values, weights = random.normal(size=4000), np.exp(3 * random.normal(size=4000))

    def loss(with_weights):
        centroids, places = cluster(values, with_weights, 8)
        return float((weights * (values - centroids[places]) ** 2).sum())

    assert loss(weights) < 0.95 * loss(np.ones(4000))


def test_lloyd_is_at_a_fixed_point():
    values = np.random.default_rng(1).normal(size=3000)
    centroids, places = cluster(values, np.ones(3000), 16)
    assert len(centroids) == 16
    assert (places == np.abs(values[:, None] - centroids).argmin(axis=1)).mean() > 0.999
    means = [values[places == place].mean() for place in range(16)]
    np.testing.assert_allclose(means, centroids, atol=0.02)


def test_few_values_are_kept_to_the_bit():
    values = np.array([0.5, -1.0, 0.5, 3.0, -1.0])
    centroids, places = cluster(values, np.array([1.0, 9.0, 1.0, 1.0, 1.0]), 4)
    assert (centroids[places] == values).all()


def test_sensitivity_is_the_mean_squared_gradient_of_single_utterances(make_model, examples):
    model, few = make_model("bert"), sample(examples["train"], 3)
    found = sensitivity(model, {"c": model.classifier}, few)["c"]
    wanted = 0
    for row in range(3):
        ids = torch.from_numpy(few.encoded.input_ids[row : row + 1]).long()
        mask = torch.from_numpy(few.encoded.attention_mask[row : row + 1]).long()
        model.zero_grad()
        functional.cross_entropy(model(ids, mask).logits, torch.from_numpy(few.labels[row : row + 1])).backward()
        wanted = wanted + model.classifier.weight.grad.numpy().astype(float) ** 2 / 3
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("group", "tables"), [(None, 1), (16, 2)])
def test_no_matrix_holds_more_values_than_its_tables(
    make_model, tokenizer, examples, settings, tmp_path, group, tables
):
    asked = settings("palette4", bits=3, group_rows=group, sensitivity_utterances=8)
    model = make_model("bert", vocab_size=64)
    before = model.bert.encoder.layer[0].attention.self.query.weight.detach().clone()
    outcome = share_weights.apply(model, tokenizer, examples, asked)
    save(outcome.model, tokenizer, tmp_path)
    query = load_model(tmp_path).bert.encoder.layer[0].attention.self.query
    assert 8 * (tables - 1) < distinct(query.weight) <= 8 * tables
    assert all(distinct(rows) <= 8 for rows in query.weight.split(group or 32))
    assert outcome.removed["matrices"] == 14
    assert not torch.equal(before, query.weight)
    first = share_weights.apply(
        make_model("bert", vocab_size=64), tokenizer, examples, asked.model_copy(update={"recovery": None})
    )
    unlearnt = first.model.bert.encoder.layer[0].attention.self.query.weight
    assert not torch.equal(unlearnt, query.weight)  # recovery moved the tables' values
    assert all(parameter.requires_grad for parameter in outcome.model.parameters())


def test_every_family_can_be_palettised(family, make_model, tokenizer, examples, settings):
    asked = settings("palette4", bits=2, sensitivity_utterances=2, recovery=None)
    model = share_weights.apply(make_model(family), tokenizer, examples, asked).model
    large = [weight for weight in model.parameters() if weight.ndim == 2 and weight.numel() >= 1024]
    assert large
    assert all(distinct(weight) <= 4 for weight in large)


def test_groups_that_do_not_divide_are_refused(make_model, tokenizer, examples, settings):
    with pytest.raises(ConfigError, match="groups of 5 rows do not divide a matrix of"):
        share_weights.apply(
            make_model("bert"), tokenizer, examples, settings("palette4", group_rows=5, sensitivity_utterances=2)
        )
