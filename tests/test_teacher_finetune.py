"""`teacher=finetune`: from a bare encoder to a checkpoint, whole or gone on with."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from stages import teacher
from stages.core import artifact, splits
from stages.models import checkpoint, interruption
from tests.test_teacher import TASK
from tests.toys.classifiers import OUTSIDE
from tests.toys.interruptions import interrupted, steps_begun

OPTION = yaml.safe_load(Path("conf/teacher/finetune.yaml").read_text(encoding="utf-8"))
FASTER = {
    "epochs": 16.0,
    "min_steps": 1,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "head_learning_rate": 1e-2,
    "embedding_learning_rate": 1e-2,
    "dropout": 0.0,
}


@pytest.fixture
def encoder(tmp_path, make_model, tokenizer):
    directory = tmp_path / "encoder"
    directory.mkdir()
    make_model(seed=2).base_model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def section(directory, **changes):
    training = {**OPTION["training"], **FASTER, **changes}
    return {**OUTSIDE, "kind": "finetune", "path": str(directory), "training": training}


def parameters(directory, **changes):
    return teacher.Params.model_validate({"task": TASK, "teacher": section(directory, **changes)})


def history(out):
    with (out / "history.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_bare_encoder_learns_the_data_and_says_where_it_came_from(encoder, data, tmp_path):
    out = tmp_path / "build/teacher"
    teacher.run(parameters(encoder), data, out)
    artifact.require(out)
    assert [path.name for path in out.parent.iterdir()] == ["teacher"]  # nothing of the states is left
    assert artifact.read_json(out / "evaluation.json")["accuracy"] > 0.7
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert list(config["id2label"].values()) == splits.read_labels(data)
    assert config["architectures"] == ["BertForSequenceClassification"]
    manifest = artifact.manifest(out)
    read = {f"checkpoint/{path.name}": artifact.sha256(path) for path in encoder.iterdir() if path.is_file()}
    assert manifest["parents"] == {**read, "data": artifact.digest(data)}
    rows = history(out)
    best = max(range(len(rows)), key=lambda row: (float(rows[row]["validation_accuracy"]), row))
    said = manifest["facts"]["fine_tuned"]
    assert (said["epoch"], f"{said['validation_accuracy']:.6g}") == (best + 1, rows[best]["validation_accuracy"])
    assert said["arithmetic"] in ("bf16", "fp32")


def test_an_interrupted_stage_goes_on_to_the_same_bytes(encoder, data, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "SECONDS", 0.0)
    settings, whole, out = parameters(encoder, epochs=2.0), tmp_path / "whole/teacher", tmp_path / "build/teacher"
    teacher.run(settings, data, whole)
    with interrupted(monkeypatch, 8):
        teacher.run(settings, data, out)
    assert not out.exists()
    assert (tmp_path / "build/.teacher.interrupted/checkpoint-8").is_dir()
    steps = steps_begun(monkeypatch)
    teacher.run(settings, data, out)
    assert steps == [8, 9, 10, 11]
    assert artifact.manifest(out) == artifact.manifest(whole)


def test_a_classifier_is_one_line_and_leaves_nothing(make_model, tokenizer, data, tmp_path, capsys):
    classifier = tmp_path / "classifier"
    classifier.mkdir()
    checkpoint.save(make_model(), tokenizer, classifier)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"task": TASK, "teacher": section(classifier)}), "utf-8")
    arguments = ["--params", tmp_path / "params.yaml", "--data", data, "--out", tmp_path / "build/teacher"]
    assert teacher.main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: the checkpoint has a trained head already")
    assert "\n" not in error
    assert not (tmp_path / "build").exists()
