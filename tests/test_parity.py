"""Parity measures what the artifact answers and never judges it."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages import parity as stage
from stages.core import artifact, splits
from stages.core.errors import ArtifactError
from stages.measure.rounding import reach
from stages.measure.structure import Constant, Input
from stages.measure.top_logits import Logits
from stages.models.encode import encode
from stages.schema.asked import Asked
from stages.targets import answers, parity
from stages.targets.facts import Executor
from stages.tasks.classify import exercise, quality
from tests.targets.running import Recorder, sign

LOGITS = np.float32([[3, 0], [0, 3], [2, 1], [0, 1]])


def split():
    ids = np.zeros((4, 8), np.int32)
    ids[:, 0] = range(4)
    mask = (np.arange(8) < np.array([[2], [8], [5], [3]])).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask, "labels": np.array([0, 1, 0, 1]), "logits": LOGITS}


def test_each_utterance_runs_alone_at_its_true_length_in_order():
    runtime = Recorder(LOGITS)
    assert (np.concatenate(list(answers.evaluate(exercise, runtime, split(), "test"))) == LOGITS).all()
    assert runtime.shapes == [(1, 2), (1, 8), (1, 5), (1, 3)]


def judged(test, outputs):
    """What parity measures of these outputs on the test split; the teacher answers as the reference does."""
    part, record = answers.measure(test, exercise.case(test), [outputs])
    return parity.with_quality(quality, part, test, record, Logits(LOGITS))


def test_wrong_answers_lower_agreement_and_accuracy():
    outputs = LOGITS[:, ::-1].copy()
    values = judged(split(), outputs)["values"]
    assert (values["top1_agreement"], values["accuracy"], values["accuracy_drop_to_teacher"]) == (0, 0, 1)
    assert judged(split(), LOGITS)["values"]["top1_agreement"] == 1


def test_texts_without_a_label_count_for_agreement_and_not_for_accuracy():
    some = split() | {"labels": np.array([0, 1, -1, -1])}
    counts = judged(some, LOGITS)["counts"]
    assert (counts["top1_agreement"], counts["accuracy"], counts["accuracy_drop_to_teacher"]) == (4, 2, 2)


def test_nan_leaves_no_quality_to_be_mistaken_for_one():
    poisoned = LOGITS.copy()
    poisoned[2, 1] = np.nan
    assert judged(split(), poisoned)["values"] == {"non_finite_count": 1, "n": 4}


class Tagger:
    """A task whose texts have an item for each token."""

    def case(self, split):
        return np.repeat(np.arange(len(split["labels"]) // 2), 2)

    def answer(self, session, split):
        return iter(np.split(session, len(session) // 2))


def test_items_of_one_text_are_counted_as_items_and_as_texts():
    task, test = Tagger(), split() | {"labels": np.array([0, 1, 0, -1])}
    test |= {name: test[name][:2] for name in ("input_ids", "attention_mask")}
    answered = list(answers.evaluate(task, LOGITS, test, "test"))
    assert [len(logits) for logits in answered] == [2, 2]
    part, record = answers.measure(test, task.case(test), answered)
    found = parity.with_quality(quality, part, test, record, Logits(LOGITS))
    assert (found["counts"]["top1_agreement"], found["texts"]["top1_agreement"]) == (4, 2)
    assert (found["counts"]["accuracy"], found["texts"]["accuracy"]) == (3, 2)
    task.answer = lambda *_: iter([LOGITS[:1]] * 2)
    with pytest.raises(ArtifactError, match=r"the artifact answers \(1, 2\) to a text; expected \(2, 2\) logits"):
        list(answers.evaluate(task, None, test, ""))


WORDS = "word_embeddings.weight"
NAMES = ("a", "b", WORDS)
WEIGHTS = {
    name: np.random.default_rng(seed).normal(size=(49, 40)).astype(np.float32) for seed, name in enumerate(NAMES)
}


CONSTANTS = {"logits": Constant("bias", np.zeros(4, np.float32))}


@pytest.fixture
def measured(tmp_path, monkeypatch, data, tokenizer):
    """Run parity on an artifact that stores given weights and a given graph, and return its metrics."""
    chain = {"teacher": {}, "checkpoint": {}, "converted": {"compressed": "checkpoint"}}
    chain |= {"artifact": {"converted": "converted"}, "reference": {}}
    names = splits.read_labels(data)
    config = {"model_type": "bert", "vocab_size": 49, "pad_token_id": 0, "id2label": dict(enumerate(names))}
    config["label2id"] = {name: index for index, name in enumerate(names)}
    rows = {}
    for part in (*parity.SPLITS, "calibration"):
        encoded = encode(tokenizer, splits.read_split(data, "probe" if part == "coverage" else part).texts, 8)
        rows[part] = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
    answer = LOGITS[rows["test"]["input_ids"][0, 0]]  # all begin with the same special token
    for name, parents in chain.items():
        places = {role: tmp_path / parent for role, parent in parents.items()}
        with artifact.writing(tmp_path / name, stage=name, parents=places) as out:
            save_file(WEIGHTS, out / "model.safetensors")
            np.save(out / "test_logits.npy", np.tile(answer, (40, 1)))
            artifact.write_json(out / "config.json", config)
            artifact.write_json(out / "quantization.json", {"asked": {"kind": "float", "bits": 32}})
            tokenizer.save_pretrained(out)
            for part, ids in rows.items():
                count = len(ids["input_ids"])
                known = {"labels": np.zeros(count, np.int64), "logits": np.tile(answer, (count, 1))}
                artifact.write_arrays(out / f"{part}.npz", ids | known)
            sign(out, 8)

    def run(stored, reason=None, graph=CONSTANTS, strays=lambda *_: [], table=WEIGHTS[WORDS]):
        def weights(directory):
            if stored is None:
                raise ArtifactError(f"'{directory}' is damaged")
            return WEIGHTS if directory.name == "converted" else stored

        runtime = SimpleNamespace(
            available=lambda: reason,
            open_runtime=lambda *_, **__: Recorder(LOGITS),
            saturation=lambda *_: {},
            versions=lambda: {"table": "1.0"},
        )
        reader = SimpleNamespace(read=lambda path: CONSTANTS if path.name == "converted" else graph)
        files = {path.name for path in (tmp_path / "reference").iterdir()}
        whole = SimpleNamespace(CONVERTED=files, FILES=files, strays=strays)
        lookup = SimpleNamespace(looked_up=lambda _, ids: table[ids])
        stored_as = SimpleNamespace(weights=weights, reach=reach)
        parts = {"runtime": runtime, "weights": stored_as, "structure": reader, "whole": whole, "lookup": lookup}
        for name, part in parts.items():
            monkeypatch.setattr(parity.registry, name, lambda _, part=part: part)
        monkeypatch.setattr(parity, "executor", lambda label, target: Executor(label, "", f"as {target} computes"))
        places = (tmp_path / name for name in ("converted", "checkpoint", "reference", "teacher"))
        stage.run("table", tmp_path / "artifact", parity.Inputs(*places, data), tmp_path / "out")
        return artifact.read_json(tmp_path / "out/metrics.json")

    return run


def test_the_worst_weight_is_named_beside_the_smallest_cosine(measured):
    sound = measured(WEIGHTS)
    values = {"conversion_weight_error_max": 0, "weight_cosine_min": pytest.approx(1)}
    assert (sound["weights"]["values"], sound["altered"]) == (values, [])
    assert sound["runtime_versions"] == {"table": "1.0"}
    assert sound["numerics"] == "as table computes"
    broken = measured(WEIGHTS | {"b": np.zeros((49, 40), np.float32)})
    assert broken["status"] == "measured"
    assert broken["test"]["values"]["top1_agreement"] == 1
    assert broken["weights"]["values"]["weight_cosine_min"] == broken["weights"]["worst"]["b"] < 0.1
    assert broken["weights"]["worst"]["a"] == pytest.approx(1)


def test_every_metric_carries_the_number_of_items_it_was_measured_on(measured):
    found = measured(WEIGHTS)
    parts = [part for part in found.values() if isinstance(part, dict) and "values" in part]
    assert len(parts) >= 6
    for part in parts:
        assert set(part["values"]) - {"n"} == set(part["counts"])
    assert found["weights"]["counts"]["weight_cosine_min"] == len(WEIGHTS)
    assert found["form"]["counts"]["form_relative_error"] == 16
    assert found["structure"]["counts"] == {"structure_difference_count": 0, "weights_beyond_count": 4}
    assert found["conversion"]["counts"] == {"conversion_relative_max_error": 32}


def test_a_rounded_weight_is_held_to_its_own_grid_and_named(measured, tmp_path):
    def asked(precision):
        directory = tmp_path / "artifact"
        artifact.write_json(directory / "quantization.json", {"asked": precision})

    int8 = {"kind": "weight_only", "weight_bits": 8, "granularity": "tensor"}
    steps = {name: np.abs(value).max() / np.float32(127) for name, value in WEIGHTS.items()}
    stored = {name: np.rint(value / steps[name]) * steps[name] for name, value in WEIGHTS.items()}
    wide = {**stored, "b": np.rint(WEIGHTS["b"] / (3 * steps["b"])) * (3 * steps["b"])}
    asked(int8)
    assert measured(stored)["weights"]["values"]["weight_error_ratio_max"] == pytest.approx(1, abs=0.05)
    broken = measured(wide)["weights"]
    assert broken["values"]["weight_error_ratio_max"] == pytest.approx(3, rel=0.1)
    assert broken["rounded"] == "b"
    asked({"kind": "guessed"})
    found = measured(stored)
    assert (found["status"], "weights" in found) == ("failed", False)
    assert "does not say what was asked of it" in found["reason"]


def test_weights_are_compared_where_no_runtime_is(measured):
    found = measured({"a": WEIGHTS["a"]}, reason="runs elsewhere only")
    assert (found["status"], found["reason"]) == ("not_measured", "runs elsewhere only")
    assert found["weights"]["worst"]["b"] < 0.1


def test_a_graph_that_is_not_the_converted_one_is_counted_and_named(measured):
    found = measured(WEIGHTS, graph={"logits": Constant("bias", np.float32([0, 0, 1, 0]))})["structure"]
    assert found["values"] == {"structure_difference_count": 0, "weights_beyond_count": 1}
    assert found["beyond"] == ["1 of 4 elements of 'bias', worst at [2]"]
    found = measured(WEIGHTS, graph={"logits": Input("ids")}, reason="runs elsewhere only")["structure"]
    assert found["differences"] == ["logits is input 'ids', expected a constant"]


@pytest.mark.parametrize(("wrong_at", "bound"), [(12, False), (99, True)])
@pytest.mark.usefixtures("measured")
def test_a_conversion_is_asked_for_another_batch_than_forms_are(wrong_at, bound, tmp_path):
    class Batched(Recorder):
        batches = True

        def run(self, call, inputs):
            ids = inputs["input_ids"]
            return {"logits": self.answers[ids[:, 0]] * (-1 if len(ids) == wrong_at else 1)}

    def ask(directory, asked):
        found, *_ = answers.answer(Batched(LOGITS), directory, tmp_path / "reference", asked)
        return answers.Given(found, {}, {}, "table", {})

    splits, no = list(parity.SPLITS), dict.fromkeys(("together", "greedy", "saturation"), False)
    asked = Asked(task="classify", splits=splits, keep=[], vocabulary=49, reach=0, **no)
    found = parity.check_conversion(ask, tmp_path / "converted", asked)
    assert (found["values"]["conversion_relative_max_error"] == 0) == bound


def test_one_row_of_the_vocabulary_that_conversion_changed_is_a_changed_weight(measured):
    table = WEIGHTS[WORDS].copy()
    table[31] = table[1]
    found = measured(WEIGHTS, table=table)["weights"]
    assert found["converted"] == WORDS
    assert found["values"]["conversion_weight_error_max"] > 0.1


def test_what_no_comparison_accounts_for_is_a_difference(measured, tmp_path):
    (tmp_path / "artifact/model.onnx.data").write_text("more", encoding="utf-8")
    found = measured(WEIGHTS, strays=lambda *_: ["metadata is set, which nothing reads"])
    assert found["structure"]["values"]["structure_difference_count"] == 2
    assert found["structure"]["differences"] == [
        "metadata is set, which nothing reads",
        "'model.onnx.data' lies beside the artifact",
    ]


def test_a_file_that_contradicts_itself_fails(measured):
    def broken(*_):
        raise KeyError("main")

    found = measured(WEIGHTS, strays=broken)
    assert found["status"] == "failed"
    assert "contradicts itself: KeyError('main')" in found["reason"]


def test_labels_tokenizer_and_lineage_of_another_model_are_named(measured, tmp_path, tokenizer):
    config = artifact.read_json(tmp_path / "checkpoint/config.json")
    with artifact.writing(tmp_path / "other", stage="compress", parents={}) as other:
        shutil.copyfile(tmp_path / "checkpoint/model.safetensors", other / "model.safetensors")
        tokenizer.save_pretrained(other)
        names = list(config["id2label"].values())
        artifact.write_json(other / "config.json", config | {"id2label": dict(enumerate([*names[1:], names[0]]))})
        words = json.loads(tokenizer.backend_tokenizer.to_str())
        words["model"]["vocab"] = {
            word: index if word.startswith("[") else 48 - index for word, index in words["model"]["vocab"].items()
        }
        artifact.write_json(other / "tokenizer.json", words)
    shutil.rmtree(tmp_path / "checkpoint")
    (tmp_path / "other").rename(tmp_path / "checkpoint")
    chain, labels, rule, *ids = measured(WEIGHTS)["altered"]
    assert chain.startswith("the converted model was made from another 'compressed' than lies in ")
    assert labels == "config.json has 'lights' for class 0, labels.json 'alarm'"
    assert rule == "tokenizer.json does not mean what the teacher's does: model.vocab.lamp is 42, expected 6"
    splits = (("probe", 16), ("test", 40), ("calibration", 16))
    assert ids == [f"tokenizer.json gives other ids for {n} of {n} {name} texts" for name, n in splits]


def test_calibration_on_what_is_judged_or_on_other_utterances_is_seen(measured, tmp_path):
    assert measured(WEIGHTS)["calibration"] == {}
    known = {part: artifact.read_arrays(tmp_path / f"reference/{part}.npz") for part in parity.SPLITS}
    with artifact.writing(tmp_path / "reference", stage="reference", parents={}) as out:
        for part, arrays in {**known, "calibration": known["probe"]}.items():
            artifact.write_arrays(out / f"{part}.npz", arrays)
    digest = artifact.sha256(tmp_path / "reference/calibration.npz")
    for sha256, altered in ((digest, 0), ("0" * 64, 1)):
        used = {"sha256": sha256, "utterances": 16, "calibration_agreement": 0.75}
        with artifact.writing(
            tmp_path / "artifact", stage="quantize", parents={"converted": tmp_path / "converted"}
        ) as out:
            artifact.write_json(
                out / "quantization.json", {"asked": {"kind": "float", "bits": 32}, "calibration": used}
            )
            sign(out, 8)
        found = measured(WEIGHTS)
        values = found["calibration"]["values"]
        assert (values["calibration_overlap"] > 0.2, values["calibration_agreement"]) == (True, 0.75)
        assert len([line for line in found["altered"] if "calibrated on other utterances" in line]) == altered


def test_a_signature_that_is_not_the_converted_models_is_named(measured, tmp_path):
    with artifact.writing(
        tmp_path / "artifact", stage="quantize", parents={"converted": tmp_path / "converted"}
    ) as out:
        artifact.write_json(out / "quantization.json", {"asked": {"kind": "float", "bits": 32}})
        sign(out, 8, pad=7)
    assert measured(WEIGHTS)["altered"] == ["its signature.json is not the converted model's"]


@pytest.mark.parametrize("reason", [None, "runs elsewhere only"])
def test_weights_that_cannot_be_read_fail(measured, reason):
    found = measured(None, reason)
    assert (found["status"], "weights" in found) == ("failed", False)
    assert "is damaged" in found["reason"]


@pytest.mark.parametrize("stage", ["parity", "benchmark", "gate", "report", "release", "summary", "host", "track"])
def test_stages_after_the_reference_import_no_toolchain(stage):
    """`track` imports MLflow only when something is missing from its database."""
    heavy = ("torch", "transformers", "coremltools", "litert_torch", "mlflow", "tensorflow", "onnx", "sklearn")
    code = f"import stages.{stage}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("target", ["onnx-cpu", "tflite-nnapi", "coreml-metal"])
def test_runtimes_and_precision_lists_import_no_training_toolchain(target):
    heavy = ("torch", "transformers", "litert_torch", "mlflow", "tensorflow", "ai_edge_quantizer")
    code = (
        f"from stages.targets import registry; runtime = registry.runtime('{target}'); runtime.available();"
        f"registry.weights('{target}');"
        f"registry.weights('{target}'); import sys; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
