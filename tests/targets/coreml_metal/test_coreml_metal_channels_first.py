"""Encoders written channels first are 1×1 convolutions, answer as before, and are audited as before."""

import shutil
from collections import Counter

import numpy as np
import pytest

from stages.coreml import open_program
from stages.measure.matching import match
from stages.measure.structure import compare
from stages.targets.coreml_metal import channels_first, structure, toolchain, weights, whole
from stages.targets.coreml_metal.convert import convert
from stages.targets.coreml_metal.package import PACKAGE
from stages.targets.coreml_metal.quantize import quantize
from stages.targets.coreml_metal.runtime import open_runtime
from stages.tasks.base import FORWARD, utterances
from tests.targets.coreml_models import CALIBRATION, STATIC, TASK
from tests.targets.faults_coreml import zero_coreml_layer
from tests.toys.targets import coreml

pytestmark = pytest.mark.target

TARGET = coreml(layout="channels_first")
TOKENS, WIDTH, HEADS, SIZE = 5, 8, 2, 4


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    """Two layers whose rotary tables and joined queries, keys and values ask for more than others do."""
    directory = tmp_path_factory.mktemp("channels_first")
    source = checkpoint("modernbert")
    convert(source, TASK, TARGET, directory)
    return source, directory


def operations(package):
    return Counter(one.type for one in open_program(package).function.block.operations)


def test_an_encoder_is_convolutions_and_answers_as_its_checkpoint(converted):
    import torch

    from stages.models.checkpoint import load_model

    source, directory = converted
    found = operations(directory / PACKAGE)
    assert (found["linear"], found["conv"]) == (0, 10)
    assert found["transpose"] == 5, "of what is looked up, and of the cosines and sines of two kinds of attention"
    assert found["squeeze"] == 1, "of the answer"
    runtime, model = open_runtime(directory, threads=1), load_model(source)
    for given in utterances(CALIBRATION):
        (logits,) = runtime.run(FORWARD, given).values()
        with torch.no_grad():
            wanted = model(**{name: torch.tensor(ids) for name, ids in given.items()}).logits.numpy()
        assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_in_integers_it_is_held_to_its_checkpoint(converted, tmp_path):
    from safetensors.numpy import load_file

    source, directory = converted
    sound = tmp_path / "sound"
    sound.mkdir()
    report = quantize(directory, STATIC, CALIBRATION, TARGET, sound)
    assert report["activations"]["linear"] == {"asked": 10, "quantized": 10}
    found = compare(structure.read(directory), structure.read(sound))
    assert (found.differences, found.beyond, whole.strays(directory, sound)) == ([], 0, [])
    tensors = load_file(source / "model.safetensors")

    def audited(artifact):
        return sorted(one.cosine for one in match(tensors, weights.weights(artifact), positions=16).values())

    assert audited(sound)[0] > 0.97
    broken = shutil.copytree(sound, tmp_path / "broken")
    zero_coreml_layer(broken)
    assert audited(broken)[0] < 0.15


def program(ct):
    """Attention among operations without a rule, on what they alone read and on what others read, too."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Placeholder, Program, types

    mb, random = Builder, np.random.default_rng(0)

    def linear(value, name, wide=WIDTH):
        weight, bias = random.normal(size=(wide, value.shape[-1])), random.normal(size=wide)
        return mb.linear(x=value, weight=np.float32(weight), bias=np.float32(bias), name=name)

    made = Program()
    with Function({"x": Placeholder((1, TOKENS, WIDTH), types.fp32, name="x")}, opset_version=ct.target.iOS18) as f:
        value = linear(f.inputs["x"], "first")
        summed = mb.cumsum(x=value, axis=1, name="summed")
        value = mb.add(x=mb.relu(x=value), y=linear(summed, "second"), name="both")
        turned = [
            mb.transpose(x=mb.reshape(x=one, shape=[1, -1, HEADS, SIZE]), perm=[0, 2, 1, 3])
            for one in mb.split(x=linear(value, "heads", 3 * WIDTH), num_splits=3, axis=-1)
        ]
        shares = mb.softmax(x=mb.matmul(x=turned[0], y=turned[1], transpose_y=True), axis=-1, name="shares")
        mixed = mb.transpose(x=mb.matmul(x=shares, y=turned[2]), perm=[0, 2, 1, 3])
        value = mb.sub(x=mb.reshape(x=mixed, shape=[1, TOKENS, -1]), y=np.float32(random.normal(size=(1, WIDTH))))
        scale = np.float32(random.normal(size=WIDTH))
        value = mb.layer_norm(x=value, axes=[2], gamma=scale, epsilon=np.float32(1e-5), name="normal")
        last = mb.slice_by_index(
            x=value,
            begin=[0, -1, 0],
            end=[0, 0, 0],
            begin_mask=[True, False, True],
            end_mask=[True, False, True],
            squeeze_mask=[False, True, False],
        )
        f.set_outputs([linear(last, "answer"), value, turned[1], summed])
        made.add_function("main", f)
    return made


def test_what_has_no_rule_reads_what_it_read_before(tmp_path):
    ct, answers = toolchain.load(), {}
    for layout in ("channels_last", "channels_first"):
        pipeline = ct.PassPipeline()
        if layout == "channels_first":
            channels_first.add_to(pipeline)
        model = ct.convert(
            program(ct),
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
        model.save(str(tmp_path / f"{layout}.mlpackage"))
        opened = open_program(tmp_path / f"{layout}.mlpackage")
        answers[layout] = opened.run({"x": np.random.default_rng(1).normal(size=(1, TOKENS, WIDTH)).astype(np.float32)})
    assert operations(tmp_path / "channels_first.mlpackage")["conv"] == 4
    before, after = answers.values()
    assert list(before) == list(after)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
