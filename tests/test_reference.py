"""The reference is what the stock model computes, and says how good it is."""

import json

import numpy as np
import pytest
import torch
import yaml

from stages import reference
from stages.core import artifact, splits
from stages.core.errors import InputError
from stages.measure import truncation
from stages.measure.top_logits import Logits
from stages.models.checkpoint import save
from stages.reference import Golden, summarise

TASK = {"name": "classify", "max_length": 8, "sequence_lengths": [8]}


@pytest.fixture
def checkpoint(make_model, tokenizer, tmp_path):
    out = tmp_path / "compressed"
    with artifact.writing(out, stage="compress", parents={}) as temporary:
        save(make_model("bert"), tokenizer, temporary)
    return out


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"task": TASK}), encoding="utf-8")
    return path


def run(params, data, checkpoint, out):
    arguments = {"params": params, "data": data, "checkpoint": checkpoint, "out": out}
    return reference.main([part for key, value in arguments.items() for part in (f"--{key}", str(value))])


def golden(logits, labels):
    logits = np.float32(logits)
    ids = np.ones((len(logits), 4), np.int32)
    return Golden(ids, ids, np.array(labels, np.int64), Logits(logits))


def test_the_reference_is_each_utterance_alone_through_the_stock_model(
    params, data, checkpoint, make_model, tokenizer, tmp_path
):
    out = tmp_path / "reference"
    assert run(params, data, checkpoint, out) == 0
    found, model = artifact.read_arrays(out / "probe.npz"), make_model("bert")
    for text, logits in zip(splits.read_split(data, "probe").texts, found["logits"], strict=True):
        ids = tokenizer(text, truncation=True, max_length=8, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            np.testing.assert_allclose(logits, model(input_ids=ids).logits[0].numpy(), atol=1e-4)


def test_every_split_is_written_in_the_types_that_artifacts_take(params, data, read_examples, checkpoint, tmp_path):
    out = tmp_path / "reference"
    assert run(params, data, checkpoint, out) == 0
    for name, n in {"probe": 16, "test": 40, "calibration": 16}.items():
        found = artifact.read_arrays(out / f"{name}.npz")
        assert {key: (array.dtype.name, array.shape) for key, array in found.items()} == {
            "attention_mask": ("int32", (n, 8)),
            "input_ids": ("int32", (n, 8)),
            "labels": ("int64", (n,)),
            "logits": ("float32", (n, 4)),
        }
        assert (found["labels"] == read_examples(name, 8).labels).all()
    assert set(artifact.manifest(out)["parents"]) == {"compressed", "data"}


def test_cut_texts_are_counted(params, data, checkpoint, tmp_path):
    out = tmp_path / "reference"
    assert run(params, data, checkpoint, out) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    too_long = sum(len(text.split()) > 6 for text in splits.read_split(data, "test").texts)
    assert summary["truncated"]["test"] == {"ends": too_long, "texts": 40}
    assert too_long > 0
    assert summary["truncated"]["train"]["texts"] == 96
    assert truncation.sentence(out).startswith("Longer than 8 tokens, and read without their end: train ")
    assert f"test {too_long} of 40" in truncation.sentence(out)
    assert summary["counts"].items() >= {"calibration": 16, "probe": 16, "test": 40}.items()


def test_the_same_inputs_give_the_same_bytes(params, data, checkpoint, tmp_path):
    assert run(params, data, checkpoint, tmp_path / "first") == 0
    assert run(params, data, checkpoint, tmp_path / "second") == 0
    assert artifact.digest(tmp_path / "first") == artifact.digest(tmp_path / "second")


def test_accuracy_comes_with_n_and_interval_and_ignores_unlabelled_texts():
    test = golden([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 1, 1, -1])
    summary = summarise("classify", {"test": test, "probe": golden([[1, 3]], [-1])}, np.arange(4))
    assert summary["n"] == 3
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["accuracy_interval"][0] < 2 / 3 < summary["accuracy_interval"][1]
    assert summary["spread"] == 1.0


def test_an_answer_that_is_not_finite_is_wrong_and_counted():
    test = golden([[1, 0], [np.nan, 0], [np.inf, 0]], [0, 0, 0])
    summary = summarise("classify", {"test": test, "probe": golden([[np.nan, 1]], [0])}, np.arange(3))
    assert summary["accuracy"] == pytest.approx(1 / 3)
    assert summary["non_finite_count"] == 3
    assert "spread" not in summary


def test_a_test_split_without_labels_is_refused():
    unlabelled = golden([[1, 0]], [-1])
    with pytest.raises(InputError, match="no text of the test split has a label"):
        summarise("classify", {"test": unlabelled, "probe": unlabelled}, np.arange(1))


def test_a_missing_checkpoint_is_one_line_and_exit_1(params, data, tmp_path, capsys):
    assert run(params, data, tmp_path / "nowhere", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
