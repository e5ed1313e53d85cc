"""A checkpoint loads whole or not at all, pruned heads included."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import InputError
from stages.models.blocks import blocks, remove_heads
from stages.models.checkpoint import load_model, load_tokenizer, save

ROOT = Path(__file__).resolve().parents[2]
IDS = torch.tensor([[2, 5, 12, 30, 3, 0, 0, 0], [2, 8, 20, 21, 22, 23, 24, 3]])


def answers(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_pruned_checkpoint_reloads_to_the_same_outputs(family, make_model, tokenizer, tmp_path):
    model = make_model(family)
    remove_heads(model, {0: [1, 3]})
    save(model, tokenizer, tmp_path)
    again = load_model(tmp_path)
    assert again.config.pruned_heads == {0: [1, 3]}
    assert blocks(again)[0].heads == 2
    torch.testing.assert_close(answers(again), answers(model), rtol=0, atol=0)


def test_a_reloaded_pruned_checkpoint_can_be_saved_and_pruned_again(make_model, tokenizer, tmp_path):
    model = make_model()
    remove_heads(model, {0: [1]})
    save(model, tokenizer, tmp_path)
    again = load_model(tmp_path)
    remove_heads(again, {0: [2], 1: [0]})
    save(again, tokenizer, tmp_path)
    assert load_model(tmp_path).config.pruned_heads == {0: [1, 2], 1: [0]}


def with_old_names(directory):
    """Name the norms as checkpoints converted from TensorFlow do."""
    path = directory / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(path)
    for today, legacy in old.items():
        tensors = {name.replace(today, legacy): tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def test_weights_are_saved_under_the_names_that_the_model_has_whatever_they_were_loaded_by(
    family, make_model, tokenizer, tmp_path
):
    """transformers 5 writes the names of the file that it read."""
    save(make_model(family), tokenizer, tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    with_old_names(tmp_path)
    renamed = load_file(tmp_path / "model.safetensors").keys() != names
    assert renamed is any("LayerNorm" in name for name in names)
    save(load_model(tmp_path), tokenizer, tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == names


@pytest.mark.parametrize("pruned_by_its_owner", [False, True])
def test_a_checkpoint_with_old_names_of_norms_can_be_reshaped(pruned_by_its_owner, make_model, tokenizer, tmp_path):
    model = make_model()
    if pruned_by_its_owner:
        remove_heads(model, {1: [0]})
    save(model, tokenizer, tmp_path)
    with_old_names(tmp_path)
    found = load_model(tmp_path)
    torch.testing.assert_close(answers(found), answers(model), rtol=0, atol=0)
    remove_heads(found, {0: [1]})
    save(found, tokenizer, tmp_path)
    torch.testing.assert_close(answers(load_model(tmp_path)), answers(found), rtol=0, atol=0)


def test_plain_transformers_refuses_a_checkpoint_with_pruned_heads_instead_of_answering_wrongly(
    make_model, tokenizer, tmp_path
):
    from transformers import AutoModelForSequenceClassification

    model = make_model()
    remove_heads(model, {0: [1]})
    save(model, tokenizer, tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"0": [2]}, r"'bert.encoder.layer.0.attention.output.dense.weight' of shape \[32, 32\]; expected \[32, 24\]"),
        ({"7": [0]}, "layer 7"),
        ({"0": [9]}, r"heads \[9\]"),
        ({"0": [0, 1, 2, 3]}, "every head of layer 0"),
        (["nonsense"], "pruned_heads"),
    ],
)
def test_pruned_heads_that_do_not_fit_the_weights_are_refused(recorded, message, make_model, tokenizer, tmp_path):
    save(make_model(), tokenizer, tmp_path)
    edit_config(tmp_path, pruned_heads=recorded)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_checkpoint_without_its_classification_head_is_refused(make_model, tokenizer, tmp_path):
    save(make_model(), tokenizer, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(InputError, match=r"lacks weights 'classifier\.bias'"):
        load_model(tmp_path)


def test_weights_that_are_not_safetensors_are_refused(make_model, tokenizer, tmp_path):
    save(make_model(), tokenizer, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("pruned", [False, True])
def test_cut_off_weights_are_refused(pruned, make_model, tokenizer, tmp_path):
    model = make_model()
    if pruned:
        remove_heads(model, {0: [1]})
    save(model, tokenizer, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot load checkpoint"):
        load_model(tmp_path)


def test_a_malformed_tokenizer_is_refused(make_model, tokenizer, tmp_path):
    save(make_model(), tokenizer, tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 1}', encoding="utf-8")
    with pytest.raises(InputError, match="cannot load tokenizer"):
        load_tokenizer(tmp_path)


def test_a_checkpoint_loads_without_torchao_and_without_a_word(make_model, tokenizer, tmp_path):
    save(make_model(), tokenizer, tmp_path)
    code = (
        "import pathlib, sys; from stages.models.checkpoint import load_model\n"
        "load_model(pathlib.Path(sys.argv[1])); print('torchao' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_two_labels_of_transformers_own_default_names_are_written_out(make_model, tokenizer, tmp_path):
    """transformers leaves out what it would assume, and clients in other languages assume nothing."""
    names = {0: "LABEL_0", 1: "LABEL_1"}
    model = make_model()
    model.classifier = torch.nn.Linear(32, 2)
    model.config.id2label, model.config.label2id = names, {name: index for index, name in names.items()}
    save(model, tokenizer, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert written["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}
    assert load_model(tmp_path).config.id2label == names


def test_the_limits_of_a_tokenizers_last_call_are_not_saved(make_model, tokenizer, tmp_path):
    tokenizer(["wake", "wake word1"], truncation=True, max_length=3, padding="max_length")
    save(make_model(), tokenizer, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert (written["truncation"], written["padding"]) == (None, None)
