"""TensorFlow's own interpreter is asked about files that LiteRT's converter wrote, and heard when it disagrees."""

import subprocess
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from stages import second_opinion
from stages.core import artifact, params
from stages.core.errors import ArtifactError
from stages.measure.items import arrays
from stages.measure.metrics import compare
from stages.schema.task import Task
from stages.tasks.classify import exercise
from tests.toys.classifiers import compressed
from tests.toys.targets import tflite

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = REPOSITORY / ".venv-tensorflow/bin/python"
KEY, LENGTH = "tflite-nnapi-fp32", 16
BOUND = {"metric": "top1_agreement", "unit": "fraction", "at_least": 0.99, "min_n": 10}
PARAMS = {
    "gate": {
        "baseline": None,
        "interval_below_n": 1,
        "targets": {},
        "reference": [{"metric": "non_finite_count", "unit": "count", "at_most": 0, "min_n": 10}],
        "every": [{"metric": "non_finite_count", "unit": "count", "at_most": 0, "min_n": 10}],
        "precisions": {"fp32": [BOUND]},
    },
    "variants": {
        KEY: {
            "compression": "none",
            "target": "tflite-nnapi",
            "precision": "fp32",
            "required": True,
            "release_not_measured": False,
        }
    },
}


def answered(logits):
    """What parity records of an artifact that answers with these logits."""
    return compare(logits, [logits], np.arange(len(logits), dtype=np.int32), np.full(len(logits), -1)).record


def test_runtimes_are_compared_on_what_both_were_asked():
    judged = answered(np.eye(4, dtype=np.float32))
    found = {"test": second_opinion.compare(judged, np.int32([0, 2]))}
    assert found["test"]["values"]["top1_agreement"] == 0.5
    assert found["test"]["values"]["n"] == 2
    assert second_opinion.apart(found, 0.5) == []
    assert second_opinion.apart(found, 0.97) == ["50.0 % of 2 test utterances alike, 97 asked"]


def test_an_answer_that_is_no_number_is_said():
    found = {"test": second_opinion.compare(answered(np.ones((2, 3), "f4")), np.int32([-1, 0]))}
    assert second_opinion.apart(found, 0.5) == ["1 answers to the test split are NaN or infinite"]


@pytest.mark.skipif(util.find_spec("tensorflow") is not None, reason="TensorFlow is installed beside coremltools")
def test_where_tensorflow_is_missing_the_command_that_installs_it_is_named(tmp_path):
    settings = params.parse(second_opinion.Params, PARAMS, "")
    with pytest.raises(ArtifactError, match="TensorFlow is not installed here; next: run `make tensorflow-check`"):
        second_opinion.run(settings, tmp_path, 1)


@pytest.fixture(scope="module")
def build(make_model, tmp_path_factory):
    """An artifact of LiteRT's converter and what LiteRT answers to it."""
    from stages.targets.answers import evaluate
    from stages.targets.tflite_nnapi.convert import convert
    from stages.targets.tflite_nnapi.runtime import open_runtime

    root = tmp_path_factory.mktemp("build")
    compressed(make_model("bert", hidden_act="quick_gelu"), root / "checkpoint")
    task = Task(name="classify", max_length=LENGTH, sequence_lengths=[LENGTH])
    with artifact.writing(root / "artifact" / KEY, stage="quantize", parents={}) as out:
        convert(
            root / "checkpoint",
            task,
            tflite(),
            out,
        )
    random = np.random.default_rng(0)
    ids = random.integers(5, 49, (20, LENGTH)).astype(np.int32)
    mask = (np.arange(LENGTH) < random.integers(3, LENGTH + 1, (20, 1))).astype(np.int32)
    labels = len(make_model("bert").config.id2label)
    split = {"input_ids": ids * mask, "attention_mask": mask, "logits": np.zeros((20, labels), np.float32)}
    split["labels"] = np.full(20, -1)
    logits = np.concatenate(list(evaluate(exercise, open_runtime(root / "artifact" / KEY, threads=1), split, "litert")))
    with artifact.writing(root / "reference/none", stage="reference", parents={}) as out:
        for name in ("probe", "test"):
            artifact.write_arrays(out / f"{name}.npz", split)
    with artifact.writing(root / "parity" / KEY, stage="parity", parents={}) as out:
        artifact.write_arrays(out / "outputs.npz", {"probe": logits})
        artifact.write_arrays(out / "items.npz", arrays({"test": answered(logits)}))
    artifact.write_json(root / "params.yaml", PARAMS)  # JSON is YAML
    return root


def check(build, items=12):
    command = [str(PYTHON), "-m", "stages.second_opinion", "--build", str(build), "--items", str(items)]
    command += ["--params", str(build / "params.yaml")]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


@pytest.mark.target
@pytest.mark.skipif(not PYTHON.is_file(), reason="no .venv-tensorflow: `make tensorflow-check` makes it")
def test_tensorflow_agrees_with_a_sound_artifact_and_is_heard_when_it_does_not(build):
    done = check(build)
    assert done.returncode == 0, done.stderr
    found = build / "second_opinion" / KEY
    assert artifact.problems(found) == []
    assert artifact.manifest(found)["parents"]["artifact"] == artifact.digest(build / "artifact" / KEY)
    measured = artifact.read_json(found / "metrics.json")["kernels"]
    for kernels in ("default", "reference"):
        assert measured[kernels]["test"]["values"]["n"] == 12
        assert measured[kernels]["probe"]["values"]["max_abs_error"] < 1e-4
    shapes = {name: value.shape[0] for name, value in artifact.read_arrays(found / "answers.npz").items()}
    assert shapes == {"default_probe": 20, "default_test": 12, "reference_probe": 20, "reference_test": 12}

    logits = np.roll(artifact.read_arrays(build / "parity" / KEY / "outputs.npz")["probe"], 1, axis=1)
    with artifact.writing(build / "parity" / KEY, stage="parity", parents={}) as out:
        artifact.write_arrays(out / "outputs.npz", {"probe": logits})
        artifact.write_arrays(out / "items.npz", arrays({"test": answered(logits)}))
    done = check(build)
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: TensorFlow 2.")
    assert f"{KEY} with reference kernels: 0.0 % of 12 test utterances alike, 99 asked" in error
