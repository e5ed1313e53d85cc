"""A language model is trained from scratch, distilled and made smaller, at sizes that take seconds."""

import csv
import json
from math import log, log2

import numpy as np
import pytest
import torch
import yaml

from stages import distill, teacher
from stages.compose import validate
from stages.core import artifact, splits
from stages.core.errors import ConfigError
from stages.models import checkpoint
from stages.models.dropout import dropping
from stages.models.encode import windows
from stages.models.families import find
from stages.models.heads import class_with
from stages.models.shapes import teacher_config
from stages.models.vocabulary import BETWEEN, train_byte_pairs
from stages.tasks import registry as tasks
from tests.composed import composed
from tests.toys.language_build import LENGTH, TASK, prepared, sentences
from tests.toys.processes import run_otherwise

SHAPES = {
    "llama": {"family": "llama", "activation": "silu", "heads": 4},
    "opt": {"family": "opt", "activation": "relu", "heads": 2},
    "qwen3": {"family": "qwen3", "activation": "silu", "heads": 4},
}


@pytest.fixture(scope="module")
def settings():
    return composed("task=generate")


def scratch(settings, family="llama", epochs=1.5, **changes):
    section = settings["teacher"] | {"layers": 2, "hidden_size": 32, "ffn_size": 40, "vocabulary_size": 288}
    section["training"] = section["training"] | {"epochs": epochs, "learning_rate": 1e-2}
    return teacher.Params.model_validate({"task": TASK, "teacher": section | SHAPES[family] | changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("prepared"), 400)


@pytest.fixture(scope="module")
def trained(settings, data, tmp_path_factory):
    """Family → the output of `teacher`, made once."""
    out = tmp_path_factory.mktemp("trained")

    def build(family):
        if not (out / family).is_dir():
            teacher.run(scratch(settings, family), data, out / family)
        return out / family

    return build


@pytest.mark.parametrize("family", SHAPES)
def test_what_is_trained_from_scratch_finds_text_likelier_than_one_that_knows_only_words(family, trained, data):
    place = trained(family)
    with (place / "history.csv").open(encoding="utf-8") as stream:
        losses = [float(row["train_loss"]) for row in csv.DictReader(stream)]
    assert losses[-1] < 0.8 * losses[0]
    scores = artifact.read_json(place / "evaluation.json")
    tokenizer, train = checkpoint.load_tokenizer(place), splits.read_split(data, "train").texts
    ids = [token for one in tokenizer(train)["input_ids"] for token in one[1:]]
    shares = np.bincount(ids, minlength=len(tokenizer)) / len(ids)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert scores["perplexity"] < 0.7 * np.exp(entropy)


def test_heads_share_keys_and_values_and_the_head_is_the_table_of_words(trained):
    model = checkpoint.load_model(trained("llama"))
    assert (model.config.num_attention_heads, model.config.num_key_value_heads, model.config.head_dim) == (4, 2, 8)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.pad_token_id is None  # a padding token's row would never learn
    assert model.config.bos_token_id == model.config.eos_token_id == 0


def test_its_tokenizer_spells_every_text_and_parts_it_from_the_next(trained):
    tokenizer = checkpoint.load_tokenizer(trained("llama"))
    for text in ("The old fox\n\n  sleeps.", "ÅÄÖ naïve \u2603 \U0001f980\x00", ""):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id == tokenizer.eos_token_id
        assert tokenizer.decode(ids[1:]) == text
    with pytest.raises(ConfigError, match="a vocabulary of 256 does not hold every byte; expected 257 or more"):
        train_byte_pairs(["a"], 256, LENGTH)


def test_windows_ask_for_every_token_but_the_first_once(trained):
    tokenizer = checkpoint.load_tokenizer(trained("llama"))
    texts = sentences(7)
    stream = [token for text in texts for token in tokenizer(text).input_ids]
    assert stream.count(tokenizer.convert_tokens_to_ids(BETWEEN)) == len(texts)
    for length in (4, 7, len(stream), len(stream) + 5):
        encoded = windows(tokenizer, texts, length, length - 1)
        rows = [ids[:size].tolist() for ids, size in zip(encoded.input_ids, encoded.lengths, strict=True)]
        assert stream == rows[0] + [token for row in rows[1:] for token in row[1:]]
        assert all(size == length for size in encoded.lengths[:-1])
        assert encoded.lengths[-1] > 1
    twice = windows(tokenizer, texts, 8, 4)
    assert [row.tolist() for row in twice.input_ids[:3]] == [stream[:8], stream[4:12], stream[8:16]]
    assert twice.input_ids[-1][: twice.lengths[-1]].tolist() == stream[-twice.lengths[-1] :]


def test_two_processes_train_the_same_bytes(settings, data, tmp_path):
    section = scratch(settings, epochs=0.05).model_dump()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(section), encoding="utf-8")
    first, second = (["--data", str(data), "--out", str(tmp_path / name)] for name in ("first", "second"))
    command = ["--params", str(tmp_path / "params.yaml")]
    run_otherwise("-m", "stages.teacher", *command, *second)
    assert teacher.main([*command, *first]) == 0
    first, second = (artifact.manifest(tmp_path / name)["files"] for name in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("family", SHAPES)
def test_what_layers_add_is_dropped_in_training_and_nothing_else(family, settings):
    shape = scratch(settings, family).teacher
    kind = class_with(find(family), "ForCausalLM")
    config = teacher_config(shape, 288, LENGTH, [], {"pad_token_id": None})
    torch.manual_seed(0)
    model = kind._from_config(config, attn_implementation="eager").train()
    ids = torch.arange(20)[None]

    def answers():
        return model(input_ids=ids).logits.detach()

    with dropping(model, 0.0):  # OPT drops a tenth of its own accord
        assert torch.equal(answers(), answers())
        still = answers()
    with dropping(model, 0.5):
        assert not torch.equal(answers(), answers())
        model.eval()
        assert torch.equal(answers(), still)


def distilled(settings, data, given, out, family, epochs):
    learning = settings["distill"]["training"] | {"epochs": epochs, "learning_rate": 1e-2}
    shape = settings["student"] | {"layers": 1, "hidden_size": 16, "heads": 2, "ffn_size": 24}
    told = {"student": shape | {"activation": SHAPES[family]["activation"]}, "task": TASK}
    told |= {"transfer": settings["transfer"], "distill": settings["distill"] | {"training": learning}}
    distill.run(distill.Params.model_validate(told), data, given, out.parent / "none", out)
    return out


def divergence(student, teacher):
    """KL(teacher ‖ student) over the test split, nats a token."""
    ours, theirs = (
        torch.log_softmax(torch.from_numpy(np.load(place / "test_logits.npy")).double(), -1)
        for place in (student, teacher)
    )
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.mark.parametrize("family", ["llama", "opt"])  # Qwen3 learns as LLaMA does, and is trained from scratch above
def test_a_student_answers_more_like_its_teacher_than_before_it_learned(family, settings, data, trained, tmp_path):
    given = trained(family)
    taught = distilled(settings, data, given, tmp_path / "taught", family, epochs=1.0)
    hardly = distilled(settings, data, given, tmp_path / "hardly", family, epochs=0.01)
    assert divergence(taught, given) < 0.3 * divergence(hardly, given)
    assert (taught / "tokenizer.json").read_bytes() == (given / "tokenizer.json").read_bytes()
    scores, before = (artifact.read_json(place / "evaluation.json") for place in (taught, given))
    assert scores["parameters"] < 0.5 * before["parameters"]
    model = checkpoint.load_model(taught)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (1, 16)
    assert getattr(model.config, "num_key_value_heads", 1) == 1


def test_a_byte_costs_what_the_tokens_of_a_whole_text_cost(trained, data):
    place = trained("llama")
    model, tokenizer = checkpoint.load_model(place), checkpoint.load_tokenizer(place)
    measure = tasks.model("generate").beside_bar
    short = ["The old fox sleeps.", "A ☃!"]
    found = measure(model, tokenizer, short, LENGTH)
    costs = []
    for text in short:
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.inference_mode():
            costs.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1) / log(2))
    assert found["bits_per_byte"] == pytest.approx(sum(costs) / sum(len(text.encode()) for text in short), rel=1e-5)
    ids, special = tokenizer(" ".join(sentences(4))).input_ids, {tokenizer.bos_token_id}
    for length in (2, 7, LENGTH):
        told = list(tasks.model("generate")._bits(model, ids, special, length))
        assert len(told) == len(ids) - 1
        assert min(told) > 0
    assert next(tasks.model("generate")._bits(model, ids[1:], special, LENGTH)) == log2(len(tokenizer))
    scores = artifact.read_json(place / "evaluation.json")
    assert (
        scores["bits_per_byte"]
        == measure(model, tokenizer, splits.read_split(data, "test").texts, LENGTH)["bits_per_byte"]
    )
    low, high = scores["bits_per_byte_interval"]
    assert low < scores["bits_per_byte"] < high


def test_task_generate_alone_chooses_all_that_a_language_model_needs(settings):
    validate(settings)
    assert (settings["data"]["kind"], settings["data"]["path"]) == ("text", None)
    assert (settings["teacher"]["family"], settings["student"]["kind"]) == ("llama", "shape")
    assert {bound["metric"] for bound in settings["gate"]["every"]} > {"perplexity_increase_to_teacher"}
    targets = {variant["target"] for variant in settings["variants"].values()}
    assert targets == {"coreml-metal", "onnx-cpu", "tflite-nnapi"}


def test_what_is_said_beside_the_task_counts():
    chosen = composed("task=generate", "gate=parity", "variant=[onnx-cpu-fp32]", "data=jsonl", "student=none")
    assert chosen["gate"] == composed("gate=parity")["gate"]
    assert [*chosen["variants"]] == ["onnx-cpu-fp32"]
    assert (chosen["data"]["kind"], chosen["student"]) == ("jsonl", {"kind": "none"})
    assert chosen["teacher"] == composed("task=generate")["teacher"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["teacher=embedded"],
            "teacher.family is 'bert'; expected one of: llama, opt, qwen2, qwen3; next: choose a teacher of this task",
        ),
        (["teacher.activation=gelu"], "teacher.activation is 'gelu'; expected silu in 'llama'"),
        (
            ["transfer=default"],
            "task 'generate' continues texts, and an altered text is none to continue; expected transf",
        ),
        (["teacher.family=opt", "teacher.activation=relu"], "student.activation is 'silu'; expected relu or gelu"),
    ],
)
def test_what_cannot_be_trained_is_refused_while_composing(given, message):
    with pytest.raises(ConfigError, match=message):
        validate(composed("task=generate", *given))


def test_a_language_model_is_no_classifier(tmp_path):
    tree = composed("teacher=generate")
    with pytest.raises(ConfigError, match="teacher.family is 'llama'; expected one of: albert, bert"):
        validate(json.loads(json.dumps(tree)))
