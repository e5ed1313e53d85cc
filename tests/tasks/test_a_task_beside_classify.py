"""A task of many items a text, written as one folder, is prepared, trained, distilled, compressed and referenced."""

import numpy as np
import pytest
import torch
import yaml

from stages import compress, convert, distill, parity, prepare, quantize, reference, tasks, teacher, transfer
from stages.core import artifact, splits
from stages.core.closure import ROOT
from stages.core.errors import InputError
from stages.core.splits import UNKNOWN
from stages.measure import items
from stages.measure.statistics import proportion_interval, rate_interval
from stages.models import checkpoint
from stages.schema.task import Task
from stages.tasks.examples import examples
from tests.composed import composed
from tests.toys.classifiers import OUTSIDE

TASK = yaml.safe_load((ROOT / "tests/toys/tasks/tag.yaml").read_text(encoding="utf-8"))
LENGTH = TASK["max_length"]
CLASSES = ["day", "long", "other"]
DATA = {
    "kind": "embedded", "licence": "Apache-2.0", "seed": 1, "probe": "synthetic", "typo_rate": 0.0,
    "train_size": 240, "validation_size": 60, "test_size": 60, "calibration_size": 20, "probe_size": 20,
}  # fmt: skip
SHAPE = {"layers": 2, "hidden_size": 32, "heads": 4, "ffn_size": 48, "activation": "quick_gelu"}
TRAINING = {"epochs": 6.0, "min_steps": 1, "batch_size": 32, "learning_rate": 1e-2, "weight_decay": 0.01}
TRAINING |= {"warmup_fraction": 0.1, "label_smoothing": 0.05, "token_masking": 0.0, "dropout": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """What four stages make of the task."""
    out = tmp_path_factory.mktemp("build")
    prepare.run(prepare.Params.model_validate({"task": TASK, "data": DATA}), out / "data")
    given = {**SHAPE, "kind": "train", "family": "bert", "vocabulary_size": 300, "licence": "x", "training": TRAINING}
    teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": given}), out / "data", out / "teacher")
    weights = {
        "temperature": 2.0,
        "kl_weight": 1.0,
        "ce_weight": 0.2,
        "hidden_weight": 0.5,
        "muon_learning_rate": 0.0,
        "arithmetic": "fp32",
    }
    asked = {
        "student": {**SHAPE, "kind": "shape", "layers": 1, "pieces": None},
        "distill": {**weights, "training": TRAINING},
    }
    copies = {"task": TASK, "transfer": {**composed()["transfer"], "near": [0.5], "halves": 1}}
    transfer.run(
        transfer.Params.model_validate(copies), *(out / name for name in ("data", "teacher", "text", "transfer"))
    )
    settings = distill.Params.model_validate({**copies, **asked})
    distill.run(settings, *(out / name for name in ("data", "teacher", "transfer", "student")))
    return out


@pytest.fixture(scope="module")
def test_split(build):
    tokenizer = checkpoint.load_tokenizer(build / "teacher")
    return examples("tag", tokenizer, splits.read_split(build / "data", "test"), CLASSES, LENGTH)


def test_its_data_are_its_own(build):
    assert artifact.read_json(build / "data/labels.json") == CLASSES
    summary = artifact.read_json(build / "data/summary.json")
    assert (summary["labels"], summary["baseline"]["method"]) == (3, "the commonest tag of each word")
    found = splits.read_split(build / "data", "test")
    assert all(len(text.split()) == len(label.split()) for text, label in zip(*found, strict=True))


def test_its_items_are_the_tokens_and_the_first_of_each_word_is_labelled(build, test_split):
    found = splits.read_split(build / "data", "test")
    logits = test_split.answers(checkpoint.load_model(build / "student"))
    case = test_split.case
    assert (case == np.nonzero(test_split.encoded.attention_mask)[0]).all()
    assert len(case) == len(logits) == len(test_split.labels) == test_split.encoded.attention_mask.sum()
    for row, label in enumerate(found.labels):
        tags = [CLASSES[one] for one in test_split.labels[case == row] if one != UNKNOWN]
        assert tags == label.split()[: len(tags)]
        assert len(tags) == len(label.split()) or test_split.encoded.lengths[row] == LENGTH


def test_each_item_is_answered_as_its_text_alone_is(build, test_split):
    model, encoded = checkpoint.load_model(build / "teacher"), test_split.encoded
    found, start = test_split.answers(model), 0
    for row, length in enumerate(encoded.lengths):
        ids = torch.from_numpy(encoded.input_ids[row : row + 1, :length].astype(np.int64))
        with torch.inference_mode():
            alone = model(input_ids=ids).logits[0].numpy()
        np.testing.assert_allclose(found[start : start + length], alone, atol=1e-4)
        start += length
    assert (test_split.best(model) == found.argmax(axis=1)).all()


def test_teacher_and_student_learn_it(build, test_split):
    labels = test_split.labels
    for name in ("teacher", "student"):
        scores, found = artifact.read_json(build / name / "evaluation.json"), np.load(build / name / "test_logits.npy")
        assert checkpoint.load_config(build / name).architectures == ["BertForTokenClassification"]
        assert scores["n"] == (labels != UNKNOWN).sum()
        assert scores["accuracy"] == (found.argmax(axis=1) == labels)[labels != UNKNOWN].mean()
        right = (found.argmax(axis=1) == labels)[labels != UNKNOWN]
        assert np.ptp(scores["accuracy_interval"]) != np.ptp(proportion_interval(int(right.sum()), len(right)))
        assert scores["accuracy"] > (labels == CLASSES.index("other")).sum() / scores["n"] + 0.02
    assert scores["agreement_with_teacher"] > 0.9


@pytest.mark.parametrize("name", ["none", "pruned", "fewer_layers", "small_vocabulary", "palette4", "shared"])
def test_it_is_compressed_and_referenced(name, build, tmp_path):
    section = composed()["compressions"][name]
    if section.get("recovery"):
        section["recovery"]["training"] |= {"epochs": 1.0, "min_steps": 1, "batch_size": 32}
    settings = compress.Params.model_validate({"task": TASK, "compression": section})
    compress.run(settings, build / "data", build / "teacher", tmp_path / "compressed")
    removed = artifact.read_json(tmp_path / "compressed/profile.json")["removed"]
    assert removed.get("validation_accuracy_recovered", 1.0) > 0.8
    params = reference.Params.model_validate({"task": TASK})
    reference.run(params, build / "data", tmp_path / "compressed", tmp_path / "reference")
    found = {split: artifact.read_arrays(tmp_path / f"reference/{split}.npz") for split in ("test", "coverage")}
    for one in found.values():
        tokens = int(one["attention_mask"].sum())
        assert (one["labels"].shape, one["logits"].shape) == ((tokens,), (tokens, 3))
    assert (found["coverage"]["labels"] == UNKNOWN).all()
    summary = artifact.read_json(tmp_path / "reference/summary.json")
    assert summary["n"] == (found["test"]["labels"] != UNKNOWN).sum()
    assert summary["counts"]["test"] == len(found["test"]["labels"])


@pytest.mark.target
def test_its_artifact_is_measured_by_its_tokens(build, tmp_path):
    tree = composed()
    target, precision = tree["targets"]["onnx-cpu"], tree["precisions"]["static_wi8_ai8"]
    compressing = compress.Params.model_validate({"task": TASK, "compression": tree["compressions"]["none"]})
    compress.run(compressing, build / "data", build / "student", tmp_path / "compressed")
    reference.run(reference.Params(task=Task(**TASK)), build / "data", tmp_path / "compressed", tmp_path / "reference")
    converting = convert.Params.model_validate({"task": TASK, "target": target})
    convert.run(converting, tmp_path / "compressed", tmp_path / "converted")
    lowering = quantize.Params.model_validate({"precision": precision, "target": target})
    quantize.run(lowering, tmp_path / "converted", tmp_path / "reference", tmp_path / "artifact")
    places = (tmp_path / name for name in ("converted", "compressed", "reference"))
    inputs = parity.Inputs(*places, build / "teacher", build / "data")
    parity.run("onnx-cpu", tmp_path / "artifact", inputs, tmp_path / "parity")
    found = artifact.read_json(tmp_path / "parity/metrics.json")
    test, record = artifact.read_arrays(tmp_path / "reference/test.npz"), items.read(tmp_path / "parity")["test"]
    assert (found["status"], found["altered"]) == ("measured", [])
    assert found["conversion"]["values"]["conversion_relative_max_error"] < 1e-4
    assert found["calibration"]["values"]["calibration_agreement"] > 0.9
    assert found["form"]["forms"].keys() == {"padded", "disturbed", "batched"}
    assert found["test"]["counts"]["top1_agreement"] == test["attention_mask"].sum() == len(record.case)
    assert found["test"]["counts"]["accuracy"] == (test["labels"] != UNKNOWN).sum()
    assert found["test"]["texts"]["top1_agreement"] == found["test"]["texts"]["accuracy"] == DATA["test_size"]
    right = (record.answer == test["labels"])[record.known]
    assert found["test"]["values"]["accuracy"] == right.mean()
    assert found["test"]["intervals"]["accuracy"] == list(rate_interval(right, record.case[record.known]))


def test_a_checkpoint_of_another_task_is_refused(build, tmp_path):
    section = OUTSIDE | {"path": str(build / "teacher"), "revision": None, "licence": "unknown"}
    teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": section}), build / "data", tmp_path / "taken")
    given, taken = (np.load(path / "test_logits.npy") for path in (build / "teacher", tmp_path / "taken"))
    np.testing.assert_allclose(taken, given, atol=1e-5)
    settings = teacher.Params.model_validate({"task": TASK | {"name": "classify"}, "teacher": section})
    with pytest.raises(InputError, match="a token classifier.*expected 'BertForSequenceClassification'"):
        teacher.run(settings, build / "data", tmp_path / "refused")


def test_it_is_one_of_the_tasks():
    assert tasks.names() == ["classify", "generate", "tag"]
