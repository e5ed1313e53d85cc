"""What is left of a language model after pruning is written for a platform, and computes what its checkpoint does."""

import numpy as np
import pytest

from stages import compress, convert, parity, quantize, reference, teacher
from stages.core import artifact
from tests.composed import composed
from tests.toys.language_build import TASK, prepared

pytestmark = pytest.mark.target


@pytest.fixture(scope="module")
def whole():
    return composed("task=generate")


@pytest.fixture(scope="module")
def build(whole, tmp_path_factory):
    """Data and a teacher that was hardly trained."""
    out = tmp_path_factory.mktemp("build")
    prepared(out, 300)
    sizes = {"layers": 2, "hidden_size": 64, "heads": 8, "ffn_size": 48, "vocabulary_size": 288}
    told = whole["teacher"] | sizes | {"training": whole["teacher"]["training"] | {"epochs": 0.2}}
    teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": told}), out / "data", out / "teacher")
    return out


@pytest.mark.parametrize("name", ["pruned", "fewer_layers"])
def test_what_is_left_is_written_and_answers_as_the_checkpoint_does(name, build, whole):
    section = whole["compressions"][name] | {"importance_utterances": 32}
    section["recovery"]["training"] |= {"epochs": 0.1, "min_steps": 1}
    out, before = build / name, artifact.read_json(build / "teacher/evaluation.json")["parameters"]
    out.mkdir()
    compress.run(
        compress.Params.model_validate({"task": TASK, "compression": section}),
        build / "data", build / "teacher", out / "compressed",
    )  # fmt: skip
    assert artifact.read_json(out / "compressed/profile.json")["parameters"] < 0.8 * before
    reference.run(
        reference.Params.model_validate({"task": TASK}), build / "data", out / "compressed", out / "reference"
    )
    target = whole["targets"]["onnx-cpu"]
    told = convert.Params.model_validate({"task": TASK, "target": target})
    convert.run(told, out / "compressed", out / "converted")
    told = quantize.Params.model_validate({"precision": whole["precisions"]["fp32"], "target": target})
    quantize.run(told, out / "converted", out / "reference", out / "artifact")
    places = {"teacher": build / "teacher", "data": build / "data", "checkpoint": out / "compressed"}
    inputs = parity.Inputs(converted=out / "converted", reference=out / "reference", **places)
    parity.run("onnx-cpu", out / "artifact", inputs, out / "parity")
    found = artifact.read_json(out / "parity/metrics.json")
    assert (found["status"], found["altered"]) == ("measured", [])
    assert found["structure"]["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    assert found["test"]["values"]["kl_divergence_mean"] < 1e-9
    assert np.isfinite(found["test"]["values"]["perplexity_increase_to_teacher"])
