"""tflite-nnapi's conversion: parity with Hugging Face, operators, names, and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ConversionError
from stages.targets.tflite_nnapi import flatbuffer, sharing
from stages.targets.tflite_nnapi.convert import convert
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.tasks.base import FORWARD, INPUTS
from tests.targets.running import run_elsewhere
from tests.targets.tflite_models import ONE_LENGTH, PRECISIONS, TARGET, TASK, utterances

pytestmark = pytest.mark.target


REPOSITORY = Path(__file__).resolve().parents[3]
MASK_OPERATORS = {"GATHER_ND", "LOGICAL_AND", "SELECT", "SELECT_V2", "LESS", "GREATER", "EQUAL"}


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert", "mobilebert"])
def test_converted_graph_agrees_with_hugging_face_at_every_signature(family, checkpoints, converted):
    import torch

    from stages.models.checkpoint import load_model

    model, runtime = load_model(checkpoints[family]), open_runtime(converted[family], threads=1)
    inputs = utterances(12)
    for length in (3, 8, 9, 16):
        for row in range(12):
            item = {name: inputs[name][row : row + 1, :length] for name in INPUTS}
            # MobileBERT's trigram embeddings see the token after the last, so padding is part of its input.
            padding = ((0, 0), (0, (8 if length <= 8 and family == "bert" else 16) - length))
            padded = {name: torch.tensor(np.pad(item[name], padding)) for name in INPUTS}
            with torch.no_grad():
                reference = model(**padded).logits.numpy()
            np.testing.assert_allclose(
                runtime.run(FORWARD, item)["logits"], reference, atol=1e-4 * max(1, np.ptp(reference))
            )


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert", "mobilebert"])
def test_the_mask_is_arithmetic_and_quick_gelu_is_no_gelu(family, converted):
    found = flatbuffer.operators(converted[family] / flatbuffer.MODEL)
    assert not MASK_OPERATORS & set(found)
    assert found["FULLY_CONNECTED"] > 0
    if family == "bert":
        assert (found["GELU"], found["LOGISTIC"]) == (0, 4)


def test_hugging_faces_own_mask_is_refused(checkpoints, tmp_path, monkeypatch):
    from stages.models import export

    def own_mask(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    monkeypatch.setattr(export.ExportModule, "forward", own_mask)
    with pytest.raises(ConversionError, match=r"the graph contains .*; expected a mask of SUB, MUL and ADD alone"):
        convert(checkpoints["bert"], ONE_LENGTH, TARGET, tmp_path)


def test_what_cannot_be_converted_is_one_line(checkpoints, tmp_path, monkeypatch):
    from stages.models import export

    def data_dependent(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids[:, : int(attention_mask.sum())]).logits

    monkeypatch.setattr(export.ExportModule, "forward", data_dependent)
    with pytest.raises(ConversionError, match="litert-torch cannot convert: ") as caught:
        convert(checkpoints["bert"], ONE_LENGTH, TARGET, tmp_path)
    assert "\n" not in str(caught.value)


def test_signatures_share_one_copy_of_the_weights(checkpoints, converted):
    model = flatbuffer.read(converted["bert"] / flatbuffer.MODEL)
    uses = [op for graph in model.subgraphs for op in graph.operators if len(op.inputs) == 3]
    weights = [item for item in flatbuffer.weights(model) if item.operator == "FULLY_CONNECTED"]
    assert len(uses) >= 2 * len(weights) == 2 * 14
    stored = (checkpoints["bert"] / "model.safetensors").stat().st_size
    assert (converted["bert"] / flatbuffer.MODEL).stat().st_size < stored + 120_000


def test_weights_that_layers_share_are_stored_once(checkpoints, converted):
    # The converter folds a normalisation into the layers after it: of what the first layer and all others share, twice.
    found = flatbuffer.weights(flatbuffer.read(converted["albert"] / flatbuffer.MODEL))
    layers = [item for item in found if item.operator == "FULLY_CONNECTED"]
    assert len(layers) == 9  # query, key, value, output, two of the feed-forward, embedding mapping, pooler, classifier
    stored = (checkpoints["albert"] / "model.safetensors").stat().st_size
    assert sum(item.size_bytes for item in found) < stored


def test_what_shares_nothing_is_left_as_it_is(converted):
    model = flatbuffer.read(converted["bert"] / flatbuffer.MODEL)
    assert sharing.unfold(model) == 0


def test_tensor_names_are_short_and_unique(converted):
    model = flatbuffer.read(converted["bert"] / flatbuffer.MODEL)
    names = [tensor.name.decode() for graph in model.subgraphs for tensor in graph.tensors]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 80
    weights = [weight.name.partition("#")[0] for weight in flatbuffer.weights(model)]
    assert "arith" not in " ".join(weights)
    assert {f"bert/encoder/1/attention/self/{role}" for role in ("query", "key", "value")} < set(weights)
    assert len(set(weights)) == len(weights) == 15


@pytest.mark.parametrize("name", ["float", "dynamic-channel", "static"])
def test_buffers_lie_inside_the_flatbuffer_at_16_bytes(name, artifacts):
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs((artifacts[name] / flatbuffer.MODEL).read_bytes())
    buffers = [root.Buffers(index) for index in range(root.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(starts) > 20
    assert {start % flatbuffer.ALIGNMENT for start in starts} == {0}
    assert {buffer.Offset() for buffer in buffers} == {0}


def test_bytes_hold_no_path_of_this_machine(artifacts):
    forbidden = [b"site-packages", b".py", str(REPOSITORY).encode(), str(Path.home()).encode() + b"/", b"__main__"]
    for directory in artifacts.values():
        written = (directory / flatbuffer.MODEL).read_bytes()
        assert [item for item in forbidden if item in written] == []


OTHER_PROCESS = """
import pickle, sys
from pathlib import Path
checkpoint, converted, calibration, task, precisions, out = pickle.loads(sys.stdin.buffer.read())
from stages.targets.tflite_nnapi.quantize import quantize
for name, (precision, target) in precisions.items():
    (out / name).mkdir(parents=True)
    quantize(converted, precision, calibration, target, out / name)
assert "torch" not in sys.modules, "quantize imported torch"
from stages.targets.tflite_nnapi.convert import convert
from stages.targets.tflite_nnapi.lookup import looked_up
(out / "converted").mkdir()
convert(checkpoint, task, target, out / "converted")
"""


def test_another_process_writes_the_same_bytes_and_quantises_without_torch(checkpoints, converted, artifacts, tmp_path):
    out = tmp_path / "again"
    work = (checkpoints["bert"], converted["bert"], utterances(32, seed=1), TASK, PRECISIONS, out)
    run_elsewhere(OTHER_PROCESS, work, tmp_path)
    both = {**artifacts, "converted": converted["bert"]}
    expected = {name: artifact.sha256(path / flatbuffer.MODEL) for name, path in both.items()}
    assert {path.name: artifact.sha256(path / flatbuffer.MODEL) for path in out.iterdir()} == expected
