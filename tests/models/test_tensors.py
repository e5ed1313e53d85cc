"""The tensors of a file are the model's weights, one to one: what either has alone, or twice, is named."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import InputError
from stages.models.checkpoint import load_model, save
from stages.models.families import find
from stages.models.tensors import require_finite

IDS = torch.tensor([[2, 5, 12, 30, 3, 0, 0, 0], [2, 8, 20, 21, 22, 23, 24, 3]])
QUERY = "bert.encoder.layer.0.attention.self.query."
WORDS = "bert.embeddings.word_embeddings.weight"


def answers(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits


@pytest.fixture
def change(make_model, tokenizer, tmp_path):
    """Save a classifier, change its tensors, and return the directory."""

    def changed(edit, family="bert", metadata=None, **overrides):
        save(make_model(family, **overrides), tokenizer, tmp_path)
        tensors = edit(load_file(tmp_path / "model.safetensors"))
        kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(kept, tmp_path / "model.safetensors", metadata or {"format": "pt"})
        return tmp_path

    return changed


def added(**tensors):
    return lambda own: own | tensors


def renamed(old, new):
    return lambda own: {name.replace(old, new): tensor for name, tensor in own.items()}


def without(part):
    return lambda own: {name: tensor for name, tensor in own.items() if part not in name}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({QUERY + "lora_A": torch.ones(4, 32)}, "lora_A'; expected none: they look like an adapter .*merge it"),
        ({QUERY + "adapters.ner.down.weight": torch.ones(4, 32)}, "look like an adapter that is not merged"),
        (
            {"bert.encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(31, 8)},
            r"distance_embedding\.weight'; expected none: they look like relative positions",
        ),
        ({"bert.encoder.layer.0.crossattention.self.query.bias": torch.ones(32)}, "the attention of a decoder"),
        ({"qa_outputs.weight": torch.ones(2, 32)}, "look like a question answering model"),
        ({"classifier2.weight": torch.ones(4, 32)}, "'classifier2.weight'; expected none: they look like another head"),
        ({"crf.transitions": torch.ones(4, 4)}, "remove them if the model answers the same"),
        ({"bert.encoder.layer.2.output.dense.bias": torch.ones(32)}, "layer.2.output.dense.bias'"),
        ({QUERY + "weight_scale": torch.ones(1)}, "weight_scale'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_tensor_that_the_model_does_not_use_is_named(change, extra, message):
    with pytest.raises(InputError, match=message):
        load_model(change(added(**extra)))


def test_at_most_three_unused_tensors_are_named_and_the_rest_counted(change):
    extra = {f"extra.{number}": torch.ones(1) for number in range(9)}
    with pytest.raises(InputError, match=r"'extra.0', 'extra.1', 'extra.2' and 6 more"):
        load_model(change(added(**extra)))


def test_the_heads_of_pretraining_and_counted_positions_are_harmless(change, family, make_model):
    positions = {f"{make_model(family).base_model_prefix}.embeddings.position_ids": torch.arange(16)[None]}
    heads = {f"{start}bias": torch.full((2,), float(row)) for row, start in enumerate(find(family).unused)}
    found = load_model(change(added(**heads, **positions), family))
    torch.testing.assert_close(answers(found), answers(make_model(family)), rtol=0, atol=0)


def test_positions_that_are_not_counted_from_0_are_refused(change):
    with pytest.raises(InputError, match="position_ids' that do not count from 0"):
        load_model(change(added(**{"bert.embeddings.position_ids": torch.arange(16).flip(0)[None]})))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("classifier"), "lacks weights 'classifier.bias'"),
        (without("pooler"), "lacks weights 'bert.pooler.dense.bias': it is a token classifier"),
        (
            lambda own: without("classifier")(own) | {"qa_outputs.bias": torch.ones(2)},
            "lacks weights 'classifier.bias': it is a question answering model",
        ),
        (
            lambda own: without("classifier")(own) | {"cls.predictions.bias": torch.ones(49)},
            "lacks weights 'classifier.bias': it is a masked language model",
        ),
        (renamed("classifier.", "score."), "lacks weights 'classifier.bias' and has 'score.bias' instead"),
        (renamed("layer.1.", "layer.7."), "lacks weights 'bert.encoder.layer.1"),
        (
            lambda own: {f"module.{name}": tensor for name, tensor in own.items()},
            "calls its weights 'module.…'.*save the model itself, not what it is wrapped in",
        ),
        (
            lambda own: {f"base_model.model.{name}": tensor for name, tensor in own.items()},
            "calls its weights 'base_model.model.…'",
        ),
        (
            lambda own: {f"base_model.model.{QUERY}lora_A.weight": torch.ones(4, 32)},
            "lacks weights 'bert.embeddings.LayerNorm.bias': it is an adapter that is not merged",
        ),
    ],
)
def test_a_weight_without_a_tensor_is_named_with_what_the_checkpoint_is_instead(change, edit, message):
    with pytest.raises(InputError, match=message):
        load_model(change(edit))


@pytest.mark.parametrize(
    "twin", [QUERY + "weight", "bert.embeddings.LayerNorm.weight"], ids=["without prefix", "under its old name"]
)
def test_two_tensors_for_one_weight_are_not_chosen_between(change, twin):
    """transformers takes one of them without a word."""
    other = twin.replace("LayerNorm.weight", "LayerNorm.gamma") if "LayerNorm" in twin else twin.removeprefix("bert.")
    with pytest.raises(InputError, match=f"' and '.*' for one weight .'{twin}'"):
        load_model(change(lambda own: own | {other: own[twin] + 1}))


@pytest.mark.parametrize("rows", [48, 50])
def test_another_shape_is_named_with_both(change, rows):
    def resized(own):
        return own | {WORDS: torch.ones(rows, 32)}

    with pytest.raises(InputError, match=rf"'{WORDS}' of shape \[{rows}, 32\]; expected \[49, 32\]"):
        load_model(change(resized))


def test_weights_that_are_no_floating_point_are_refused(change):
    """transformers would take the numbers of an int8 grid for weights."""
    with pytest.raises(InputError, match=f"'{WORDS}' of I8; expected floating point"):
        load_model(change(lambda own: own | {WORDS: own[WORDS].to(torch.int8)}))


def test_weights_in_another_layout_are_refused(change):
    with pytest.raises(InputError, match="in the layout of 'tf'; expected PyTorch's"):
        load_model(change(lambda own: own, metadata={"format": "tf"}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path, make_model, value):
    model = make_model()
    model.classifier.bias.data[1] = value
    with pytest.raises(InputError, match=r"no finite number \('classifier.bias'\)"):
        require_finite(tmp_path, model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths_are_taken_in(change, make_model, kind):
    found = load_model(change(lambda own: {name: tensor.to(kind) for name, tensor in own.items()}))
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    torch.testing.assert_close(answers(found), answers(make_model()), rtol=0.05, atol=0.05)


def test_a_checkpoint_without_the_encoders_prefix_is_taken_in(change, make_model):
    found = load_model(change(lambda own: {name.removeprefix("bert."): tensor for name, tensor in own.items()}))
    torch.testing.assert_close(answers(found), answers(make_model()), rtol=0, atol=0)
