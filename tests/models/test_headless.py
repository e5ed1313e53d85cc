"""A pretrained encoder from outside is taken in under a new head; what is none, or has one, is refused by one line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification

from stages.core.errors import InputError
from stages.models import checkpoint, importing
from stages.models.families import find
from stages.tasks.classify.model import HEAD
from tests.models.hostile import edit
from tests.toys.classifiers import LIMITS

LABELS = ["no", "perhaps", "yes"]
LIKE_A_HEAD = "has a trained head already"


def read(directory):
    return importing.read_headless(directory, LABELS, 16, LIMITS, HEAD)


@pytest.fixture
def encoder(tmp_path, make_model, tokenizer):
    """Save a bare encoder of a family."""

    def save(family="bert", name="encoder", **overrides):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        make_model(family, **overrides).base_model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory

    return save


def test_an_encoder_of_every_family_keeps_its_weights_and_gets_a_head(family, encoder, make_model):
    directory = encoder(family)
    model, tokenizer, new = read(directory)
    given, prefix = make_model(family).base_model.state_dict(), model.base_model_prefix
    assert {name for name, _ in model.named_parameters()} == new | {f"{prefix}.{name}" for name in given}
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.base_model.state_dict().items())
    assert {name for name in new if name.startswith(find(family).head)}
    assert not {name for name in new if name.startswith(f"{prefix}.")}
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.num_labels == model(**tokenizer("a", return_tensors="pt")).logits.shape[-1] == 3


def test_what_pretraining_left_beside_the_encoder_is_passed_over(family, tmp_path, make_model, tokenizer):
    masked = AutoModelForMaskedLM.from_config(make_model(family).config)
    masked.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _, new = read(tmp_path)
    assert {name for name in new if name.startswith(find(family).head)}
    words = model.get_input_embeddings().weight
    assert torch.equal(words, masked.get_input_embeddings().weight)


def test_a_pooler_that_was_left_out_is_new(encoder):
    directory = encoder()
    tensors = load_file(directory / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    *_, new = read(directory)
    assert new == {f"{name}.{part}" for name in ("bert.pooler.dense", "classifier") for part in ("weight", "bias")}


def test_a_directory_of_sentence_transformers_is_read_where_it_says(encoder, tmp_path):
    encoder(name="whole/0_Transformer")
    (tmp_path / "whole/1_Pooling").mkdir()
    modules = [{"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "whole/modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with importing.opened(str(tmp_path / "whole"), None, LIMITS) as (directory, files):
        assert directory == tmp_path / "whole/0_Transformer"
        assert files["config.json"] == directory / "config.json"
        read(directory)


@pytest.mark.parametrize(
    "modules", [[], {}, [{"path": "../elsewhere"}], [{"path": "/etc"}], [{"path": "absent"}], [{"path": 3}], ["x"]]
)
def test_a_place_outside_is_not_gone_to(modules, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with (
        pytest.raises(InputError, match=r"modules.json' does not say which directory here the encoder lies in"),
        importing.opened(str(whole), None, LIMITS),
    ):
        pass


def test_a_directory_around_the_checkpoint_is_told_where_it_lies(encoder, tmp_path):
    encoder(name="package/model")
    with pytest.raises(InputError, match=r"package' has no config.json; .*next: give '.*package/model' if you mean"):
        read(tmp_path / "package")


def test_labels_of_an_encoder_say_nothing(encoder):
    directory = encoder()
    edit(directory / "config.json", id2label={"0": "entailment"}, label2id={"entailment": 0}, num_labels=1)
    model, *_ = read(directory)
    assert list(model.config.id2label.values()) == LABELS


def test_a_classifier_is_refused_by_its_name_or_its_tensors(make_model, tokenizer, tmp_path):
    checkpoint.save(make_model(), tokenizer, tmp_path)
    with pytest.raises(
        InputError, match=f"{LIKE_A_HEAD}: it is a sentence classifier.*next: teacher=checkpoint takes it"
    ):
        read(tmp_path)
    edit(tmp_path / "config.json", architectures=None)
    with pytest.raises(InputError, match=rf"{LIKE_A_HEAD} \('classifier.bias'\)"):
        read(tmp_path)


def test_a_head_for_words_is_one_too(make_model, tokenizer, tmp_path):
    AutoModelForTokenClassification.from_config(make_model().config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"{LIKE_A_HEAD}: it is a token classifier"):
        read(tmp_path)


def test_a_decoder_is_refused(encoder):
    directory = encoder()
    edit(directory / "config.json", model_type="llama", architectures=["LlamaModel"])
    with pytest.raises(InputError, match="of family 'llama', which this task does not take; expected one of: albert"):
        read(directory)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json; expected a Hugging Face directory"),
        ("model.safetensors", "has no model.safetensors"),
        ("tokenizer.json", "has no tokenizer; expected one of: tokenizer.json, vocab.txt, spiece.model"),
    ],
)
def test_what_is_not_there_is_named(encoder, name, message):
    directory = encoder()
    (directory / name).unlink()
    with pytest.raises(InputError, match=message):
        read(directory)


def test_part_of_an_encoder_is_none(encoder):
    directory, shallow = encoder(), encoder(name="shallow", num_hidden_layers=1)
    shutil.copyfile(shallow / "model.safetensors", directory / "model.safetensors")
    with pytest.raises(InputError, match=r"lacks weights 'bert.encoder.layer.1.*expected a whole encoder"):
        read(directory)


def test_a_bare_encoder_that_was_to_have_a_head_is_shown_the_way(encoder, family):
    directory = encoder(family)
    way = rf"next: train a head .*teacher=finetune teacher.path={directory} "
    with pytest.raises(InputError, match=f"a bare encoder without a classifier.*{way}"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_so_is_what_guesses_words(make_model, tokenizer, tmp_path):
    AutoModelForMaskedLM.from_config(make_model().config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"a masked language model.*teacher=finetune teacher.path={tmp_path} "):
        importing.read(tmp_path, LABELS, 16, LIMITS, HEAD)


def test_a_decoder_without_its_head_is_not_sent_there(tmp_path):
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=9)
    LlamaModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("a", encoding="utf-8")
    with pytest.raises(InputError, match="a bare encoder without a classifier") as caught:
        importing.read(tmp_path, [], 16, LIMITS, "ForCausalLM")
    assert "finetune" not in str(caught.value)
