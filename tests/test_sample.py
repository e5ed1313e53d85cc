"""A language model writes the texts that its own build learns from: seeded, as likely as it finds them."""

import json

import numpy as np
import pytest
import torch

from stages import prepare, sample
from stages.compose import validate
from stages.core import artifact, splits
from stages.core.errors import ConfigError, InputError
from stages.models import checkpoint
from stages.models.sampling import write
from stages.models.vocabulary import train_byte_pairs
from stages.schema.data import Samples
from stages.schema.plan import derive
from tests.composed import composed
from tests.toys.decoders import seeded, tiny_llama

LENGTH = 12
TASK = {"name": "generate", "max_length": LENGTH, "sequence_lengths": [LENGTH]}
GIVEN = ("task=generate", "data=samples", "teacher=checkpoint", "student=none")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    tokenizer = train_byte_pairs(["the fox and the house"] * 9, 262, LENGTH)
    sizes = {"vocab_size": 262, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = seeded(tiny_llama(**sizes, **tokens, initializer_range=0.5, max_position_embeddings=16), 1)
    model.lm_head.weight.data[66:92] *= 3  # some letters are likelier
    checkpoint.save(model, tokenizer, out)
    return out


@pytest.fixture(scope="module")
def model(teacher):
    return checkpoint.load_model(teacher), checkpoint.load_tokenizer(teacher)


def settings(teacher, **changes):
    tree = composed(*GIVEN)
    told = tree["teacher"] | {"path": str(teacher)}
    return sample.Params.model_validate({"task": TASK, "teacher": told, "data": tree["data"] | changes})


def test_the_seed_alone_decides_what_is_written(model):
    once, again, other = (write(*model, 70, LENGTH, 1.0, seed) for seed in (1, 1, 2))
    assert once == again != other
    assert len(once) == 70


def test_tokens_are_drawn_as_often_as_they_are_likely(model):
    network, tokenizer = model
    with torch.inference_mode():
        chances = torch.softmax(network(input_ids=torch.tensor([[0]])).logits[0, -1] / 0.7, -1).numpy()
    texts = write(network, tokenizer, 3000, 2, 0.7, 5)
    spelled = {token: tokenizer.decode([token]) for token in range(1, 262)}
    kept = [token for token, text in spelled.items() if text.isascii() and text.isprintable() and text.strip() == text]
    assert chances[kept].sum() > 0.3
    for token in kept:
        found = texts.count(spelled[token]) / 3000
        assert found == pytest.approx(chances[token], abs=float(5 * np.sqrt(chances[token] / 3000)) + 1e-3)


def test_what_ends_a_text_ends_it(model):
    network, tokenizer = model
    ending = write(network, tokenizer, 64, LENGTH, 30.0, 3)  # nearly all tokens are as likely
    network.config.eos_token_id = [0, *range(100, 262)]
    try:
        sooner = write(network, tokenizer, 64, LENGTH, 30.0, 3)
    finally:
        network.config.eos_token_id = 0
    assert all(long.startswith(short) for long, short in zip(ending, sooner, strict=True) if "�" not in short)
    assert sum(map(len, sooner)) < 0.5 * sum(map(len, ending))


def test_a_build_is_prepared_from_what_was_written(teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = settings(teacher, texts=300, temperature=3.0)
    sample.run(asked, tmp_path / Samples.PLACE)
    manifest = artifact.manifest(tmp_path / Samples.PLACE)
    assert manifest["parents"]["checkpoint/model.safetensors"] == artifact.sha256(teacher / "model.safetensors")
    written = json.loads((tmp_path / Samples.PLACE / Samples.NAME).read_text(encoding="utf-8"))
    prepare.run(prepare.Params.model_validate({"task": TASK, "data": asked.data}), tmp_path / "data")
    parts = [splits.read_split(tmp_path / "data", name).texts for name in ("train", "validation", "test")]
    assert {text for part in parts for text in part} <= set(written)
    assert not set(parts[0]) & set(parts[2])
    assert len(parts[0]) > 5 * len(parts[2]) > 0


def test_too_few_different_texts_are_refused(teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = settings(teacher, texts=70, temperature=0.01)
    sample.run(asked, tmp_path / Samples.PLACE)
    with pytest.raises(InputError, match="wrote 1 different texts; expected 64 or more; next: raise data.texts"):
        prepare.run(prepare.Params.model_validate({"task": TASK, "data": asked.data}), tmp_path / "data")


def test_the_graph_lets_the_teacher_write_where_the_data_are_its_own():
    tree = composed(*GIVEN, "teacher.path=somewhere")
    validate(tree)
    assert tree["plan"]["samples"] == {"teacher": {"source": "somewhere"}}
    assert tree["plan"]["data"]["train"] == Samples.PLACE
    assert derive(composed())["samples"] == {}


@pytest.mark.parametrize("given", [("task=generate", "data=samples"), ("data=samples", "teacher=checkpoint")])
def test_a_teacher_that_is_yet_to_be_trained_or_that_classifies_writes_nothing(given):
    with pytest.raises(ConfigError, match="to write before it is there; expected a language model from outside"):
        validate(composed(*given))
