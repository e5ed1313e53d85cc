"""Mixtures, narrow weights, and how a file is written."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from stages.core.errors import ConversionError, Unsupported
from stages.schema.variant import Dynamic, Float, WeightOnly
from stages.targets.tflite_nnapi import flatbuffer, quantize, storage, supports
from tests.targets.tflite_models import FLOAT, MIXED, PRECISIONS, TARGET, lowered, utterances

pytestmark = pytest.mark.target


@pytest.mark.parametrize(
    "precision",
    [
        Dynamic(kind="dynamic", weight_bits=8, granularity="block_32"),
        WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32"),
    ],
    ids=str,
)
def test_weights_that_the_quantiser_leaves_in_float_without_a_word_are_an_error(
    precision, converted, tmp_path, monkeypatch
):
    with pytest.raises(Unsupported, match="leaves such weights in float without a word"):
        quantize.quantize(converted["bert"], precision, {}, TARGET, tmp_path)
    monkeypatch.setattr(quantize, "supports", lambda _: True)
    with pytest.raises(ConversionError, match="is FLOAT32 on .*; expected INT"):
        quantize.quantize(converted["bert"], precision, {}, TARGET, tmp_path)


def test_a_mixture_stores_every_weight_as_chosen_and_says_why(converted, tmp_path):
    out, report = lowered(converted["bert"], "mixed", tmp_path)
    mixture = report["mixture"]
    chosen = {weight["name"] for weight in mixture["weights"] if weight["precision"] == "low"}
    assert sorted(chosen) == mixture["low"]
    assert 0 < len(chosen) < len(mixture["weights"]) == 15
    assert report["weights"] == {"INT4": len(chosen), "INT8": 15 - len(chosen)}
    stored = {
        weight.name.partition("#")[0].replace("/", ".")
        for weight in flatbuffer.weights(flatbuffer.read(out / flatbuffer.MODEL))
        if weight.dtype == "INT4"
    }
    assert stored == chosen
    assert mixture["chosen"]["kl_divergence_mean"] <= MIXED.kl_budget < mixture["all_low"]["kl_divergence_mean"]


def test_tables_alone_are_lowered_where_that_is_asked(converted, tmp_path):
    asked = MIXED.model_copy(update={"among": "tables", "kl_budget": 1.0})
    report = quantize.quantize(converted["bert"], asked, utterances(32, seed=1), TARGET, tmp_path)
    assert {weight["name"] for weight in report["mixture"]["weights"]} == set(report["mixture"]["low"])
    tables = [w for w in flatbuffer.weights(flatbuffer.read(tmp_path / flatbuffer.MODEL)) if w.dtype == "INT4"]
    assert {weight.operator for weight in tables} == {"EMBEDDING_LOOKUP"}


def test_a_weight_at_the_other_precision_of_a_mixture_is_an_error(artifacts):
    weights = flatbuffer.weights(flatbuffer.read(artifacts["mixed"] / flatbuffer.MODEL))
    with pytest.raises(ConversionError, match="is INT4 on .*; expected INT8"):
        quantize.check_weights(weights, MIXED, TARGET)


def test_what_stands_beside_nothing_else_is_no_part_of_a_mixture():
    for other in (Float(kind="float", bits=16), WeightOnly(kind="weight_only", weight_bits=8, granularity="channel")):
        assert not supports(MIXED.model_copy(update={"high": other}))
    assert supports(MIXED.model_copy(update={"high": FLOAT}))


def test_rows_that_blocks_do_not_fill_get_8_bits(converted, tmp_path):
    out, _ = lowered(converted["albert"], "four-block", tmp_path / "out")
    found = flatbuffer.weights(flatbuffer.read(out / flatbuffer.MODEL))
    assert {weight.dtype for weight in found} == {"INT4", "INT8"}
    assert all((weight.dtype == "INT8") == (weight.width % 32 > 0) for weight in found)


def test_packed_numbers_of_four_bits_come_back():
    levels = np.array([[-8, -1, 0], [7, 3, -5]], np.int8)
    packed = storage.pack("INT4", levels)
    assert packed.tolist() == [0xF8, 0x70, 0xB3]  # the first of a pair in the lower half
    assert np.array_equal(storage.unpack("INT4", (2, 3), packed), levels)
    assert np.array_equal(
        storage.unpack("INT4", (5,), storage.pack("INT4", levels.reshape(-1)[:5])), levels.ravel()[:5]
    )
    with pytest.raises(ValueError, match="3 bytes for 7 numbers of 4 bits"):
        storage.unpack("INT4", (7,), packed)


def test_a_file_is_written_without_a_second_copy_of_its_weights(tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    weights = np.random.default_rng(0).integers(0, 256, (2, 1 << 23), np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.signatureDefs = 3, [], [], []
    model.buffers = [schema.BufferT() for _ in range(4)]
    for buffer, data in zip(model.buffers[1:], (*weights, weights[0]), strict=True):
        buffer.data = data
    tracemalloc.start()
    flatbuffer.write(model, tmp_path / "model.tflite")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.7 * weights.nbytes  # the file's own bytes, and room that the shared buffer does not need
    found = flatbuffer.read(tmp_path / "model.tflite").buffers
    assert (tmp_path / "model.tflite").stat().st_size < weights.nbytes + 4096
    assert [np.array_equal(found[at].data, data) for at, data in enumerate((*weights, weights[0]), 1)] == [True] * 3


def test_supported_precisions_are_what_is_tested():
    assert all(supports(precision) for precision, _ in PRECISIONS.values())
