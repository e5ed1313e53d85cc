"""ModernBERT: windows of attention, turned positions, packed and gated matrices, from its own kind of checkpoint."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from stages.compression import factorize, prune_layers
from stages.core import artifact
from stages.core.errors import InputError, Unsupported
from stages.models import checkpoint, importing, mask, reshape
from stages.models.blocks import blocks, keep_ffn_units, remove_heads
from stages.models.encode import encode, logits
from stages.models.export import ExportModule, load_export_module
from stages.models.folded import norm_gains
from stages.models.shapes import student_config
from stages.schema.compression import Factorize
from stages.schema.model import Shape
from stages.tasks.classify.model import HEAD, items
from tests.toys.classifiers import LABELS, LIMITS
from tests.toys.tokenizers import TEXTS, of_modernbert

FULL, SLIDING = "full_attention", "sliding_attention"
PUBLISHED = {
    "classifier_pooling": "mean",
    "global_attn_every_n_layers": 2,
    "global_rope_theta": 160000.0,
    "layer_norm_eps": 1e-05,
    "local_rope_theta": 10000.0,
    "position_embedding_type": "absolute",
    "reference_compile": None,
}
"""What older versions of transformers wrote, and checkpoints still say."""


@pytest.fixture
def outside(make_model, tmp_path):
    """A checkpoint of four layers as the family's were published, with a window of two tokens on either side."""
    directory, tokenizer = tmp_path / "outside", of_modernbert()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 32, "num_hidden_layers": 4, "local_attention": 4}
    make_model("modernbert", classifier_pooling="mean", global_attn_every_n_layers=2, **sizes).save_pretrained(
        directory
    )
    tokenizer.save_pretrained(directory)
    edit(directory, layer_types=..., rope_parameters=..., **PUBLISHED)
    return directory


def edit(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}), encoding="utf-8")


def read(directory, length=32):
    return importing.read(directory, LABELS, length, LIMITS, HEAD)


def answers_of(directory):
    model, tokenizer = read(directory)
    return logits(model, encode(tokenizer, TEXTS[:5], 32), batch_size=1)


def same_after_a_save(model, tokenizer, directory):
    directory.mkdir()
    checkpoint.save(model, tokenizer, directory)
    again, encoded = checkpoint.load_model(directory), encode(tokenizer, TEXTS[:5], 32)
    np.testing.assert_allclose(logits(again, encoded), logits(model, encoded), rtol=0, atol=1e-5)
    return again


def test_a_published_checkpoint_comes_in_with_the_answers_that_transformers_gives(outside):
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = read(outside)
    stock = AutoModelForSequenceClassification.from_pretrained(outside, attn_implementation="eager").eval()
    encoded = encode(tokenizer, TEXTS[:5], 32)
    assert model.config.layer_types == [FULL, SLIDING, FULL, SLIDING]
    assert np.array_equal(logits(model, encoded), logits(stock, encoded))
    own = Tokenizer.from_file(str(outside / "tokenizer.json"))
    assert [tokenizer(text).input_ids for text in TEXTS] == [own.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize(
    "changes", [{"local_rope_theta": 10.0}, {"global_rope_theta": 10.0}, {"global_attn_every_n_layers": 4}]
)
def test_settings_under_older_names_still_count(outside, changes):
    before = answers_of(outside)
    edit(outside, **changes)
    assert np.abs(answers_of(outside) - before).max() > 0.01 * before.std()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {FULL: {"rope_type": "yarn", "factor": 2.0}}}, "rope_parameters.*rope_type default"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps: 1e-12; expected 1e-05"),
        ({"classifier_pooling": "max"}, "classifier_pooling.*expected cls or mean"),
        ({"layer_types": ["chunked_attention"] * 4}, "layer_types.*expected a list of full_attention"),
        ({"local_rope_theta": -1}, "local_rope_theta: -1; expected a number above 0"),
    ],
)
def test_what_no_artifact_would_honour_is_refused(outside, changes, said):
    edit(outside, **changes)
    with pytest.raises(InputError, match=said):
        read(outside)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_export_module_sees_what_each_kind_of_attention_sees(outside, pooling):
    edit(outside, classifier_pooling=pooling)
    model, tokenizer = read(outside)
    encoded = encode(tokenizer, TEXTS[:5], 32)
    stock = logits(model, encoded, batch_size=1)
    constant = mask.calibrate(model, encoded, items, tokenizer.pad_token_id).constant
    found = mask.export_logits(ExportModule(model, constant, 32).eval(), encoded)
    assert np.abs(found - stock).max() < 1e-4 * stock.std()
    model.config.local_attention = 64
    whole = mask.export_logits(ExportModule(model, constant, 32).eval(), encoded)
    assert np.abs(whole - stock).max() > 0.1 * stock.std()


def test_positions_from_tables_are_the_models_own(outside, tmp_path):
    model, tokenizer = read(outside)
    encoded = encode(tokenizer, TEXTS[:5], 32)
    (tmp_path / "compressed").mkdir()
    checkpoint.save(model, tokenizer, tmp_path / "compressed")
    artifact.write_json(tmp_path / "compressed" / "profile.json", {"mask_constant": 64.0})
    found = mask.export_logits(load_export_module(tmp_path / "compressed", 32), encoded)
    assert np.array_equal(found, mask.export_logits(ExportModule(model, 64.0, 32).eval(), encoded))


def test_a_layer_that_comes_first_loses_the_norm_that_first_layers_lack(outside, tmp_path):
    model, tokenizer = read(outside)
    prune_layers.keep(model, model.base_model.layers, [1, 2])
    again = same_after_a_save(model, tokenizer, tmp_path / "fewer")
    assert again.config.layer_types == [SLIDING, FULL]
    assert isinstance(again.base_model.layers[0].attn_norm, torch.nn.Identity)


def test_packed_heads_and_gated_units_are_cut_from_every_part(outside, tmp_path):
    model, tokenizer = read(outside)
    block = blocks(model)[1]
    remove_heads(model, {1: [0, 2]})
    keep_ffn_units(model, [[[1, 5, 7]] for _ in blocks(model)])
    assert block.query.out_features == 3 * 2 * block.head_size
    assert (block.ffns[0].up.out_features, block.ffns[0].down.in_features) == (6, 3)
    same_after_a_save(model, tokenizer, tmp_path / "pruned")


def test_packed_matrices_without_biases_are_factorised_as_one(outside, tmp_path):
    model, tokenizer = read(outside)
    params = Factorize.model_construct(linear_rank=8, embedding_rank=8)
    ranks = factorize.choose(model, params)
    assert {path.rpartition(".")[2] for path in ranks} == {"tok_embeddings", "Wqkv", "Wi", "Wo"}
    reshape.lower_rank(model, ranks)
    assert same_after_a_save(model, tokenizer, tmp_path / "low").base_model.layers[0].attn.Wqkv.outer.bias is None


def test_layers_of_different_kinds_do_not_share_their_weights(outside):
    model, _ = read(outside)
    with pytest.raises(Unsupported, match="a 'modernbert' checkpoint cannot share its layers; expected own layers in"):
        reshape.share_layers(model, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("layers", "kinds"), [(1, [FULL]), (3, [FULL, SLIDING, FULL]), (5, [FULL, SLIDING] * 2 + [FULL])]
)
def test_a_student_has_the_kinds_of_its_teacher_in_order(outside, layers, kinds):
    model, _ = read(outside)
    shape = Shape(kind="shape", layers=layers, hidden_size=16, heads=2, ffn_size=24, activation="relu", pieces=None)
    assert student_config(model.config, shape).layer_types == kinds


def test_gains_without_biases_are_found_before_the_layers_that_read_them(make_model):
    model = make_model("modernbert")
    names = {module: name for name, module in model.named_modules()}
    found = {names[layer].rpartition("layers.")[2] for layer in norm_gains(model)}
    assert found == {"0.attn.Wqkv", "0.mlp.Wi", "1.attn.Wqkv", "1.mlp.Wi", "classifier"}
