"""What a rewrite of the model makes of its graph: one part for NNAPI, which `gate=accelerated` asks for."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from stages.accelerators.covering import cover
from stages.core import params
from stages.core.closure import ROOT
from stages.core.errors import ConversionError
from stages.gating.verdict import Flat, judge_threshold
from stages.measure.structure import compare
from stages.models import gelu
from stages.schema.gate import Threshold
from stages.schema.task import Task
from stages.targets.base import read_signature
from stages.targets.tflite_nnapi import convert, decoder, flatbuffer, structure
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.tasks.base import DECODE, IDS
from stages.tasks.generate.interface import CALLS
from tests.targets.tflite_models import ONE_LENGTH, TARGET, lowered
from tests.toys.classifiers import compressed
from tests.toys.decoders import read, tiny_llama, tiny_opt

pytestmark = pytest.mark.target
BOUNDS = yaml.safe_load((ROOT / "conf/gate/accelerated.yaml").read_text(encoding="utf-8"))["targets"]["tflite-nnapi"]


@pytest.fixture(scope="module")
def rewritten(make_model, tmp_path_factory):
    """ELECTRA's head has a GELU that no setting of its config reaches."""
    root = tmp_path_factory.mktemp("rewritten")
    model = make_model("electra", num_hidden_layers=1)
    gelu.approximate(model, "gelu_pytorch_tanh")
    (root / "converted").mkdir()
    convert.convert(compressed(model, root / "checkpoint"), ONE_LENGTH, TARGET, root / "converted")
    return root / "converted"


def missed(directory):
    """Say of every bound of the gate why an artifact does not meet it."""
    found = cover("tflite-nnapi", directory)
    flat = Flat(dict(found["values"]), {}, dict(found["counts"]))
    return [reason for one in BOUNDS if (reason := judge_threshold(params.parse(Threshold, one, "gate"), flat, 0))]


def test_the_stock_graph_fails_the_gate_for_its_gelus(converted):
    assert flatbuffer.operators(converted["distilbert"] / flatbuffer.MODEL)["GELU"] == 2
    (reason,) = missed(converted["distilbert"])
    assert "nnapi_fl8_partitions value 3 > 1 count" in reason
    (refused,) = cover("tflite-nnapi", converted["distilbert"])["accelerators"]["nnapi_fl8"]["refused"]
    assert "gelu_as_tanh" in refused["cure"]


@pytest.mark.parametrize("name", ["float", "static"])
def test_the_rewritten_graph_passes_it_in_float_and_in_integers(rewritten, tmp_path, name):
    directory, _ = lowered(rewritten, name, tmp_path / name)
    assert missed(directory) == []
    taken = cover("tflite-nnapi", directory)["accelerators"]["nnapi_fl6"]
    assert (taken["operators"], taken["partitions"], taken["refused"]) == (1, 1, [])
    found = compare(structure.read(rewritten), structure.read(directory))
    assert (found.differences, found.beyond) == ([], 0)


def test_no_gelu_is_left_that_the_converter_fused_back(rewritten, converted):
    for directory in (rewritten, converted["albert"]):  # ALBERT's are of the tanh form as published
        found = flatbuffer.operators(directory / flatbuffer.MODEL)
        assert (found["GELU"], found["LOGISTIC"] > 0) == (0, True)


def test_a_gelu_that_was_fused_back_all_the_same_is_an_error(rewritten, monkeypatch):
    path = rewritten / flatbuffer.MODEL
    monkeypatch.setattr(flatbuffer, "operators", lambda _path: {"GELU": 1})
    (call,) = read_signature(rewritten).calls
    with pytest.raises(ConversionError, match="contains GELU; expected what was written out"):
        convert._check(path, call, ONE_LENGTH.sequence_lengths, {"GELU"})


@pytest.mark.parametrize("config", [tiny_llama(num_key_value_heads=2, head_dim=8), tiny_opt()], ids=["llama", "opt"])
def test_a_cache_updated_by_arithmetic_is_the_same_cache_and_one_part(config, tmp_path):
    _, model = read(config, tmp_path / "checkpoint")
    task, found = Task(name="generate", max_length=20, sequence_lengths=[6, 20]), {}
    ids = np.random.default_rng(3).integers(3, model.vocabulary, 20).astype(np.int32)
    for way in ("in_place", "arithmetic"):
        (tmp_path / way).mkdir()
        decoder.convert(model, CALLS, task, tmp_path / way, arithmetic=way == "arithmetic")
        session = open_runtime(tmp_path / way, 1)
        state = session.new_state()
        parts = np.split(ids, [7, 8, 9, 15])  # several at once, one by one, and behind what padding left
        found[way] = [session.run(DECODE, {IDS: part[None]}, state)["logits"] for part in parts]
    for first, second in zip(*found.values(), strict=True):
        assert (first == second).all()
    assert "nnapi_fl8_partitions" in missed(tmp_path / "in_place")[-1]
    assert missed(tmp_path / "arithmetic") == []
    assert cover("tflite-nnapi", tmp_path / "arithmetic")["accelerators"]["nnapi_fl6"]["operators"] == 1
