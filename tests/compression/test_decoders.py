"""Language models lose heads with the keys and values that these share, FFN units and layers, and stay stock."""

import numpy as np
import pytest
import torch

from stages.compose import validate
from stages.compression import transform
from stages.core.errors import ConfigError, Unsupported
from stages.models import profile
from stages.models.blocks import blocks, heads_left, keep_ffn_units, remove_heads
from stages.models.checkpoint import load_model, save
from stages.models.encode import Encoded
from stages.models.examples import Examples
from stages.models.families import check_offered, find
from stages.models.vocabulary import train_byte_pairs
from stages.tasks import registry as tasks
from tests.composed import composed
from tests.toys.decoders import seeded

LENGTH = 16
TEXTS = [f"fox {number} runs over the old house and sleeps" for number in range(40)]
SIZES = {"vocab_size": 280, "hidden_size": 48, "num_hidden_layers": 3, "max_position_embeddings": LENGTH}
FAMILIES = {
    "llama": {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 8, "intermediate_size": 40},
    "qwen2": {"num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 40},
    "qwen3": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16, "intermediate_size": 40},
    "opt": {"num_attention_heads": 4, "ffn_dim": 40, "word_embed_proj_dim": 48},
}


def made(family="llama", **changes):
    from transformers import AutoConfig

    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None, find(family).spread: 0.3}
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family], **tokens, **changes})
    return seeded(config, 3)


def answers(model):
    with torch.inference_mode():
        return model(input_ids=torch.arange(1, 2 * LENGTH + 1).reshape(2, -1)).logits


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_pairs(TEXTS, 280, LENGTH)


@pytest.fixture(scope="module")
def examples(tokenizer):
    ids = np.array([tokenizer(text).input_ids[:LENGTH] for text in TEXTS], np.int32)
    task = tasks.model("generate")
    encoded = Encoded(ids, np.ones_like(ids), 0)
    split = Examples(encoded, task.wanted(tokenizer, TEXTS, [], encoded, []), task.items)
    return {"train": split, "validation": split.take(range(8))}


@pytest.fixture(scope="module")
def compressed(tokenizer, examples):
    """Compress a random model by an option of conf/compression, made quick: outcome out."""

    def build(name, family="llama", tie=True, **changes):
        tree = composed("task=generate")["compressions"][name] | changes
        tree["recovery"]["training"] |= {"epochs": 1.0, "min_steps": 1, "batch_size": 8}
        section = validated(tree)
        model = made(family, tie_word_embeddings=tie)
        check_offered(find(family), section.needs, name)
        return transform(section.kind).apply(model, tokenizer, examples, section)

    return build


def validated(tree):
    from pydantic import TypeAdapter

    from stages.schema.compression import Compression

    return TypeAdapter(Compression).validate_python(tree)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_know_what_goes_with_a_head_and_a_unit(family):
    model = made(family)
    parts, before = blocks(model), profile.parameters(model)
    assert [block.shared for block in parts] == [{"llama": 3, "qwen2": 2, "qwen3": 2, "opt": 1}[family]] * 3
    units = sum(ffn.unit_parameters for block in parts for ffn in block.ffns)
    keep_ffn_units(model, [[list(range(39))] for _ in parts])
    assert profile.parameters(model) == before - units
    if find(family).head_size:
        heads = sum(block.head_parameters for block in parts)
        remove_heads(model, {layer: [1, 2] for layer in range(3)})
        assert profile.parameters(model) == before - units - 2 * heads


def test_removing_heads_with_their_keys_and_values_equals_zeroing_their_output():
    silenced, cut = made(), made()
    for layer, block in enumerate(blocks(silenced)):
        gone = {layer, 3}
        for group in gone:
            block.output.weight.data[:, group * 24 : (group + 1) * 24] = 0
        assert heads_left(cut, layer) == [0, 1, 2, 3]
    remove_heads(cut, {layer: [layer, 3] for layer in range(3)})
    assert (cut.config.num_attention_heads, cut.config.num_key_value_heads, cut.config.head_dim) == (6, 2, 8)
    torch.testing.assert_close(answers(cut), answers(silenced), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pruned", {}),
        ("pruned_to_budget", {"parameters": 45_000}),
        ("fewer_layers", {}),
        ("sparse", {}),
        ("palette4", {}),
        ("qat4", {}),
    ],
)
def test_transformers_alone_loads_what_is_left_and_answers_the_same(
    name, changes, tie, compressed, tokenizer, tmp_path
):
    from transformers import AutoModelForCausalLM

    outcome = compressed(name, tie=tie, **changes)
    save(outcome.model, tokenizer, tmp_path)
    stock, info = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours = answers(load_model(tmp_path))
    assert torch.equal(answers(stock), ours)
    torch.testing.assert_close(answers(outcome.model), ours, rtol=0, atol=1e-5)
    assert (stock.lm_head.weight is stock.model.embed_tokens.weight) == tie
    assert "pruned_heads" not in stock.config.to_dict() or not stock.config.pruned_heads
    assert len(outcome.history) == 1


def test_half_of_the_heads_and_units_go_and_the_rest_is_what_matters(compressed):
    outcome = compressed("pruned")
    config = outcome.model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (6, 2, 20)
    assert outcome.removed["ffn_units_per_ffn"] == 20
    assert {len(heads) for heads in outcome.removed["heads"].values()} == {2}


def test_a_budget_is_met(compressed):
    outcome = compressed("pruned_to_budget", parameters=45_000)
    assert outcome.removed["parameters"] == profile.parameters(outcome.model) <= 45_000


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_less_is_a_model_of_its_own(family, compressed, tokenizer, tmp_path):
    outcome = compressed("fewer_layers", family=family)
    save(outcome.model, tokenizer, tmp_path)
    again = load_model(tmp_path)
    assert again.config.num_hidden_layers == len(blocks(again)) == 2
    torch.testing.assert_close(answers(outcome.model), answers(again), rtol=0, atol=1e-5)
    with torch.inference_mode():  # layers find their own keys and values
        ids = torch.arange(1, 9)[None]
        begun = outcome.model(input_ids=ids[:, :5], use_cache=True)
        ended = outcome.model(input_ids=ids[:, 5:], past_key_values=begun.past_key_values).logits
        torch.testing.assert_close(ended, outcome.model(input_ids=ids).logits[:, 5:], rtol=0, atol=1e-4)


def test_heads_that_do_not_divide_the_width_are_refused(compressed):
    model = made(hidden_size=64, num_attention_heads=8, num_key_value_heads=8)
    with pytest.raises(ConfigError, match="7 heads would be left, and transformers takes none that do not divide the"):
        remove_heads(model, {layer: [0] for layer in range(3)})


@pytest.mark.parametrize(
    ("family", "name", "why"),
    [
        ("opt", "pruned", "takes heads, which no 'opt' gives: its config says no width of a head"),
        ("qwen2", "pruned", "takes heads, which no 'qwen2' gives"),
        (
            "llama",
            "small_vocabulary",
            "takes words, which no 'llama' gives: pairs of bytes are merged one from another",
        ),
        ("llama", "shared", "takes own layers, which no 'llama' gives: its layers differ by more than their weights"),
        ("llama", "low_rank", "takes whole matrices, which no 'llama' gives: what is written for platforms knows no"),
    ],
)
def test_what_a_family_cannot_give_is_refused_while_composing(family, name, why, compressed):
    with pytest.raises(Unsupported, match=f"compression '{name}' {why}.*next: choose variants with another"):
        compressed(name, family=family)
    activation = {"opt": "relu"}.get(family, "silu")
    chosen = (f"teacher.family={family}", f"teacher.activation={activation}", f"student.activation={activation}")
    with pytest.raises(Unsupported, match=f"compression '{name}' {why}"):
        validate(composed("task=generate", *chosen, f"variant=[onnx-cpu-{name}-fp32]"))


def test_units_alone_go_where_heads_cannot(compressed):
    outcome = compressed("pruned", family="opt", heads_fraction=0.0)
    assert (outcome.model.config.ffn_dim, outcome.model.config.num_attention_heads) == (20, 4)
