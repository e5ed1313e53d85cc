import csv
import json

import numpy as np
import pytest
import yaml

from stages import teacher
from stages.core import artifact, splits
from stages.models import checkpoint
from tests.toys.classifiers import OUTSIDE, published
from tests.toys.processes import run_otherwise

TASK = {"name": "classify", "max_length": 16, "sequence_lengths": [8, 16]}
TRAINED = {
    "kind": "train",
    "family": "bert",
    "layers": 1,
    "hidden_size": 32,
    "heads": 2,
    "ffn_size": 48,
    "activation": "quick_gelu",
    "vocabulary_size": 80,
    "licence": "Apache-2.0",
    "training": {
        "epochs": 20.0,
        "min_steps": 1,
        "batch_size": 16,
        "learning_rate": 5e-3,
        "weight_decay": 0.01,
        "warmup_fraction": 0.1,
        "label_smoothing": 0.0,
        "token_masking": 0.05,
        "dropout": 0.0,
        "seed": 0,
    },
}


def parameters(**section):
    return teacher.Params.model_validate({"task": TASK, "teacher": section})


def imported(path):
    return parameters(**{**OUTSIDE, "path": str(path)})


@pytest.fixture
def outside(tmp_path):
    return lambda family="bert": published(tmp_path / "outside" / family, family)


def test_a_checkpoint_of_every_family_passes_through(family, data, read_examples, outside, tmp_path):
    directory, out = outside(family), tmp_path / "teacher"
    teacher.run(imported(directory), data, out)
    artifact.require(out)
    model = checkpoint.load_model(out)
    test = read_examples("test", 16)
    stored = np.load(out / "test_logits.npy")
    np.testing.assert_allclose(stored, test.answers(model), atol=1e-5)
    scores = artifact.read_json(out / "evaluation.json")
    assert scores["accuracy"] == (stored.argmax(1) == test.labels).mean()
    assert (scores["n"], scores["parameters"]) == (40, model.num_parameters())
    assert not (out / "history.csv").exists()


def test_the_manifest_names_the_data_and_every_imported_file(data, outside, tmp_path):
    directory, out = outside(), tmp_path / "teacher"
    teacher.run(imported(directory), data, out)
    assert artifact.manifest(out)["parents"] == {
        **{f"checkpoint/{path.name}": artifact.sha256(path) for path in directory.iterdir()},
        "data": artifact.digest(data),
    }


def test_a_teacher_trained_from_scratch_learns_the_train_split(data, tmp_path):
    out = tmp_path / "teacher"
    teacher.run(parameters(**TRAINED), data, out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert list(config["id2label"].values()) == splits.read_labels(data)
    assert artifact.read_json(out / "evaluation.json")["accuracy"] > 0.8
    assert checkpoint.load_tokenizer(out).is_fast
    with (out / "history.csv").open(encoding="utf-8") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == [str(epoch) for epoch in range(1, 21)]


def test_a_trained_tokenizer_is_named_as_later_stages_save_it(family, data, tmp_path):
    shape = {**TRAINED, "family": family, "training": {**TRAINED["training"], "epochs": 0.1}}
    teacher.run(parameters(**shape), data, tmp_path / "teacher")
    before = (tmp_path / "teacher" / "tokenizer_config.json").read_bytes()
    checkpoint.save_tokenizer(checkpoint.load_tokenizer(tmp_path / "teacher"), tmp_path)
    assert (tmp_path / "tokenizer_config.json").read_bytes() == before


def test_two_processes_train_the_same_bytes(data, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"task": TASK, "teacher": TRAINED}), encoding="utf-8")
    first, second = (["--data", str(data), "--out", str(tmp_path / name)] for name in ("first", "second"))
    command = ["--params", str(tmp_path / "params.yaml")]
    run_otherwise("-m", "stages.teacher", *command, *second)
    assert teacher.main([*command, *first]) == 0
    first, second = (artifact.manifest(tmp_path / name)["files"] for name in ("first", "second"))
    assert first == second


def test_a_bad_checkpoint_exits_1_with_one_line_and_leaves_nothing(data, tmp_path, capsys):
    section = imported(tmp_path / "absent").model_dump()["teacher"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"task": TASK, "teacher": section}), encoding="utf-8")
    arguments = ["--params", tmp_path / "params.yaml", "--data", data, "--out", tmp_path / "build/teacher"]
    assert teacher.main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "is not a directory; expected a local Hugging Face directory" in error
    assert "\n" not in error
    assert not (tmp_path / "build").exists()


@pytest.mark.real
def test_the_real_teacher_keeps_its_accuracy_on_clinc150(real, tmp_path):
    rows = json.loads((real / "clinc150/data_full.json").read_text(encoding="utf-8"))
    data = tmp_path / "data"
    with artifact.writing(data, stage="prepare", parents={}) as temporary:
        for name, key in {"train": "val", "validation": "val", "test": "test"}.items():
            lines = [
                json.dumps({"text": text, "label": label}) for text, label in rows[key][:: 10 if key == "val" else 1]
            ]
            (temporary / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        artifact.write_json(temporary / "labels.json", sorted({label for _, label in rows["test"]}))
    task = {"name": "classify", "max_length": 32, "sequence_lengths": [32]}
    section = {**OUTSIDE, "path": str(real / "clinc150_teacher")}
    teacher.run(teacher.Params.model_validate({"task": task, "teacher": section}), data, tmp_path / "teacher")
    scores = artifact.read_json(tmp_path / "teacher/evaluation.json")
    assert (round(scores["accuracy"], 4), scores["n"]) == (0.9096, 4500)
