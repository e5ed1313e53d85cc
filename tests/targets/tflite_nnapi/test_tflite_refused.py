"""Damaged files, and what cannot be run or lowered, are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError, InputError, Unsupported
from stages.schema.variant import Dynamic, Palettized, Static, WeightOnly
from stages.targets.tflite_nnapi import flatbuffer, quantize, supports
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.tasks.base import FORWARD, INPUTS
from tests.targets.faults_tflite import zero_tflite_layer
from tests.targets.tflite_models import TARGET, agreement, run_all, utterances

pytestmark = pytest.mark.target


TWO_BITS = Dynamic(kind="dynamic", weight_bits=2, granularity="block_32")


@pytest.mark.parametrize("name", ["float", "dynamic-tensor", "static-small"])
def test_parity_notices_a_zeroed_layer(name, converted, artifacts, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in artifacts[name].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    zero_tflite_layer(broken)
    inputs = utterances(48, seed=2)
    parity = agreement(run_all(converted["bert"], inputs), run_all(broken, inputs))
    assert parity["relative_max_error"] > 0.5
    assert parity["cosine_similarity_min"] < 0.85


def test_a_file_without_layers_cannot_be_broken(tmp_path, converted):
    model = flatbuffer.read(converted["bert"] / flatbuffer.MODEL)
    for graph in model.subgraphs:
        graph.operators = []
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    with pytest.raises(ValueError, match="no constant FULLY_CONNECTED weight"):
        zero_tflite_layer(tmp_path)


@pytest.mark.parametrize("name", ["float", "static"])
@pytest.mark.parametrize("kept", [0, 8, 1000, 0.5, 0.99])
def test_a_truncated_file_is_refused(name, kept, artifacts, tmp_path):
    for file in artifacts[name].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / flatbuffer.MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ArtifactError, match=r"LiteRT cannot open .*model\.tflite"):
        open_runtime(tmp_path, threads=1)


def test_a_missing_file_or_signature_is_refused(artifacts, tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read .*signature\.json"):
        open_runtime(tmp_path, threads=1)
    (tmp_path / "signature.json").write_bytes((artifacts["float"] / "signature.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"has no model\.tflite"):
        open_runtime(tmp_path, threads=1)


def test_a_signature_the_file_does_not_have_is_refused(artifacts, tmp_path):
    signature = artifact.read_json(artifacts["float"] / "signature.json")
    artifact.write_json(tmp_path / "signature.json", {**signature, "sequence_lengths": [8, 12]})
    (tmp_path / flatbuffer.MODEL).write_bytes((artifacts["float"] / flatbuffer.MODEL).read_bytes())
    with pytest.raises(ArtifactError, match="LiteRT cannot open"):
        open_runtime(tmp_path, threads=1)


def test_what_is_not_tflite_is_refused(tmp_path):
    path = tmp_path / flatbuffer.MODEL
    with pytest.raises(ArtifactError, match="cannot read"):
        flatbuffer.read(path)
    path.write_bytes(b"PK" * 100)
    with pytest.raises(ArtifactError, match="is not a TFLite file; expected identifier TFL3"):
        flatbuffer.read(path)
    path.write_bytes(b"\xff\xff\xff\x0fTFL3" + b"\0" * 64)
    with pytest.raises(ArtifactError, match="is damaged"):
        flatbuffer.read(path)


def test_an_utterance_longer_than_every_signature_is_refused(artifacts):
    inputs = {name: np.ones((1, 17), np.int32) for name in INPUTS}
    with pytest.raises(InputError, match="17 tokens do not fit; expected at most 16"):
        open_runtime(artifacts["float"], threads=1).run(FORWARD, inputs)


@pytest.mark.parametrize(
    "precision",
    [
        Dynamic(kind="dynamic", weight_bits=8, granularity="block_32"),
        WeightOnly(kind="weight_only", weight_bits=8, granularity="block_32"),
        WeightOnly(kind="weight_only", weight_bits=4, granularity="channel"),
        TWO_BITS,
        Static(kind="static", weight_bits=8, activation_bits=8, granularity="channel"),
        Palettized(kind="palettized", weight_bits=4, granularity="tensor", sparsity=0),
    ],
    ids=str,
)
def test_other_precisions_are_refused(precision, tmp_path):
    assert not supports(precision)
    with pytest.raises(Unsupported, match=r"tflite-nnapi cannot do .*; expected one of: float 16"):
        quantize.quantize(tmp_path, precision, {}, TARGET, tmp_path)


def test_two_bit_weights_are_refused_because_litert_cannot_open_them(converted, tmp_path, monkeypatch):
    with pytest.raises(Unsupported, match="LiteRT refuses 2-bit weights when it opens the file"):
        quantize.quantize(converted["bert"], TWO_BITS, {}, TARGET, tmp_path)
    # When this fails, a newer LiteRT can: the refusal has to go.
    monkeypatch.setattr(quantize, "supports", lambda _: True)
    monkeypatch.setattr(quantize, "check_weights", lambda *_: None)
    with pytest.raises(ArtifactError, match="LiteRT cannot run .*INT2"):
        quantize.quantize(converted["bert"], TWO_BITS, {}, TARGET, tmp_path)
