import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import distill, teacher, transfer
from stages.core import artifact, splits
from stages.core.errors import ArtifactError, ConfigError
from stages.models import checkpoint
from tests.toys.classifiers import OUTSIDE, published
from tests.toys.processes import run_otherwise

TASK = {"name": "classify", "max_length": 16, "sequence_lengths": [8, 16]}
TRAINING = {
    "epochs": 6.0,
    "min_steps": 1,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "weight_decay": 0.01,
    "warmup_fraction": 0.1,
    "label_smoothing": 0.0,
    "token_masking": 0.0,
    "dropout": 0.0,
    "seed": 0,
}
DISTILL = {
    "temperature": 2.0,
    "kl_weight": 1.0,
    "ce_weight": 0.2,
    "hidden_weight": 0.0,
    "muon_learning_rate": 0.0,
    "arithmetic": "fp32",
    "training": TRAINING,
}
SHAPE = {"kind": "shape", "layers": 1, "hidden_size": 16, "heads": 2, "ffn_size": 24, "activation": "quick_gelu"}
SHAPE |= {"pieces": None}
TRANSFER = yaml.safe_load(Path("conf/transfer/default.yaml").read_text(encoding="utf-8"))
RESULTS = {"manifest.json", "evaluation.json", "test_logits.npy"}


def parameters(student, **changes):
    tree = {"task": TASK, "student": student, "transfer": TRANSFER, "distill": {**DISTILL, **changes}}
    return distill.Params.model_validate(tree)


def learn(settings, data, given, out):
    """Ask the teacher, then distil: all beside `out`."""
    asked, text = out.with_name("transfer"), out.with_name("text")
    transfer.run(transfer.Params(task=settings.task, transfer=settings.transfer), data, given, text, asked)
    distill.run(settings, data, given, asked, out)


@pytest.fixture(scope="session")
def random_teacher(data, tmp_path_factory):
    """The output of `teacher` for an untrained checkpoint of a family."""

    def build(family):
        base = tmp_path_factory.mktemp(family)
        section = OUTSIDE | {"path": str(published(base / "outside", family)), "revision": None, "licence": "unknown"}
        teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": section}), data, base / "teacher")
        return base / "teacher"

    return build


@pytest.fixture(scope="session")
def trained_teacher(data, tmp_path_factory):
    """A small BERT that has learned the toy intents."""
    out = tmp_path_factory.mktemp("trained") / "teacher"
    section = {**SHAPE, "kind": "train", "family": "bert", "hidden_size": 32, "vocabulary_size": 80, "licence": "x",
               "training": {**TRAINING, "epochs": 20.0}}  # fmt: skip
    del section["pieces"]
    teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": section}), data, out)
    return out


def test_no_student_passes_the_files_of_every_family_through(family, data, random_teacher, tmp_path):
    given, out = random_teacher(family), tmp_path / "student"
    distill.run(parameters({"kind": "none"}), data, given, tmp_path / "no", out)
    artifact.require(out)
    recorded, passed = artifact.manifest(given)["files"], artifact.manifest(out)["files"]
    assert set(recorded) == set(passed)
    assert all(recorded[name] == passed[name] for name in set(recorded) - {"evaluation.json"})
    before, after = (artifact.read_json(path / "evaluation.json") for path in (given, out))
    assert after == {**before, "agreement_with_teacher": 1.0,
                     "agreement_with_teacher_interval": after["agreement_with_teacher_interval"]}  # fmt: skip


def test_no_student_leaves_the_teachers_learning_curve_behind(data, trained_teacher, tmp_path):
    distill.run(parameters({"kind": "none"}), data, trained_teacher, tmp_path / "no", tmp_path / "student")
    assert not (tmp_path / "student/history.csv").exists()


def test_a_student_of_every_family_is_smaller_and_of_that_family(family, data, random_teacher, tmp_path):
    given, out = random_teacher(family), tmp_path / "student"
    learn(parameters(SHAPE, training={**TRAINING, "epochs": 0.5}), data, given, out)
    artifact.require(out)
    scores, before = (artifact.read_json(path / "evaluation.json") for path in (out, given))
    assert scores["parameters"] < before["parameters"]
    assert checkpoint.load_config(out).model_type == family
    assert checkpoint.load_model(out).config.id2label == dict(enumerate(splits.read_labels(data)))
    assert (out / "tokenizer.json").read_bytes() == (given / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(("hidden_weight", "arithmetic", "muon"), [(0.5, "fp32", 0.02), (0.0, "bf16", 0.0)])
def test_a_student_learns_what_its_teacher_knows(hidden_weight, arithmetic, muon, data, trained_teacher, tmp_path):
    out = tmp_path / "student"
    training = {**TRAINING, "epochs": 12.0, "learning_rate": 1e-2}
    shape = {**SHAPE, "hidden_size": 24}
    how = {"hidden_weight": hidden_weight, "arithmetic": arithmetic, "muon_learning_rate": muon}
    told = parameters(shape, **how, training=training)
    learn(told, data, trained_teacher, out)
    scores, before = (artifact.read_json(path / "evaluation.json") for path in (out, trained_teacher))
    assert scores["accuracy"] > 0.9 * before["accuracy"] > 0.7
    found, given = np.load(out / "test_logits.npy"), np.load(trained_teacher / "test_logits.npy")
    assert scores["agreement_with_teacher"] == (found.argmax(1) == given.argmax(1)).mean()
    assert scores["validation_kept_of_teacher"] > 0.9  # of another split, and of as many texts as that has
    low, high = scores["validation_kept_of_teacher_interval"]
    assert low < scores["validation_kept_of_teacher"] < high
    assert scores["validation_kept_of_teacher_n"] == len(splits.read_split(data, "validation").texts)
    assert not [name for name in checkpoint.load_model(out).state_dict() if "projection" in name]
    with (out / "history.csv").open(encoding="utf-8") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == [str(12 * (epoch + 1)) for epoch in range(12)]


def test_the_lineage_names_data_and_teacher(data, trained_teacher, tmp_path):
    distill.run(parameters({"kind": "none"}), data, trained_teacher, tmp_path / "no", tmp_path / "student")
    parents = artifact.manifest(tmp_path / "student")["parents"]
    assert parents == {"data": artifact.digest(data), "teacher": artifact.digest(trained_teacher)}


def test_two_processes_distil_the_same_bytes(data, trained_teacher, tmp_path):
    told = {**TRANSFER, "near": [0.3], "halves": 1, "arithmetic": "bf16"}
    tree = {"task": TASK, "student": SHAPE, "transfer": told}
    tree["distill"] = {**DISTILL, "arithmetic": "bf16", "training": {**TRAINING, "dropout": 0.1, "epochs": 2.0}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    arguments = [str(path) for path in (tmp_path / "params.yaml", data, trained_teacher, tmp_path)]
    run_otherwise("-c", OTHER_PROCESS, *arguments, "second")
    both(*arguments, "first")
    first, second = (artifact.manifest(tmp_path / name)["files"] for name in ("first", "second"))
    assert first == second


OTHER_PROCESS = "import sys; from tests.test_distill import both; both(*sys.argv[1:])"


def both(params, data, given, place, name):
    """The two stages as `dvc repro` starts them."""
    told = ["--params", params, "--data", data, "--teacher", given]
    assert transfer.main([*told, "--texts", "no", "--out", f"{place}/asked-{name}"]) == 0
    assert distill.main([*told, "--transfer", f"{place}/asked-{name}", "--out", f"{place}/{name}"]) == 0


def test_an_altered_teacher_is_refused(data, random_teacher, tmp_path):
    given = random_teacher("bert")
    config = json.loads((given / "config.json").read_text(encoding="utf-8"))
    (given / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not what its stage wrote: 'config.json' has sha256"):
        distill.run(parameters({"kind": "none"}), data, given, tmp_path / "no", tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_heads_that_do_not_divide_the_width_exit_1_with_one_line(data, random_teacher, tmp_path, capsys):
    tree = {"task": TASK, "student": {**SHAPE, "heads": 3}, "transfer": TRANSFER, "distill": DISTILL}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    given = random_teacher("bert")
    arguments = ["--params", tmp_path / "params.yaml", "--data", data, "--teacher", given]
    arguments += ["--transfer", tmp_path / "no", "--out", tmp_path / "out"]
    assert distill.main([str(argument) for argument in arguments]) == 1
    message = capsys.readouterr().err
    assert "3 heads do not divide hidden_size 16" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_student_of_fewer_pieces_carries_a_tokenizer_that_knows_no_others(data, trained_teacher, tmp_path):
    """Every text is cut into pieces that have a row; the special tokens are there; it learns as before."""
    out, whole = tmp_path / "student", checkpoint.load_tokenizer(trained_teacher)
    training = {**TRAINING, "epochs": 12.0, "learning_rate": 1e-2}
    learn(parameters({**SHAPE, "hidden_size": 24, "pieces": 48}, training=training), data, trained_teacher, out)
    model, tokenizer = checkpoint.load_model(out), checkpoint.load_tokenizer(out)
    assert len(whole) > len(tokenizer) == model.get_input_embeddings().num_embeddings == model.config.vocab_size <= 48
    assert set(tokenizer.get_vocab()) < set(whole.get_vocab())
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0
    scores, before = (artifact.read_json(path / "evaluation.json") for path in (out, trained_teacher))
    assert scores["accuracy"] > 0.8 * before["accuracy"]
    words = splits.read_split(data, "test").texts
    assert tokenizer.unk_token_id not in {index for ids in tokenizer(words)["input_ids"] for index in ids}


def test_fewer_pieces_than_characters_are_refused(data, trained_teacher, tmp_path):
    with pytest.raises(ConfigError, match=r"student.pieces is 8; expected \d+ or more: characters and special tokens"):
        learn(parameters({**SHAPE, "pieces": 8}), data, trained_teacher, tmp_path / "student")
    assert not (tmp_path / "student").exists()
