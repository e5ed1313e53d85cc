"""Rounding that makes up for its own errors loses less of what a layer gives out, and each weight is still held to."""

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.schema.variant import Gptq
from stages.targets.onnx_cpu import gptq, graph, integers
from stages.targets.stored import compare_structure
from tests.targets.onnx_cpu.test_onnx_shared_table import TABLE, WIDTH, WORDS, altered, quantized, written

pytestmark = pytest.mark.target
PRECISION = Gptq(kind="gptq", weight_bits=4, granularity="block_32")
CALIBRATION = {
    "input_ids": np.random.default_rng(4).integers(0, WORDS, (24, 16)).astype(np.int32),
    "attention_mask": np.ones((24, 16), np.int32),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return written(tmp_path_factory.mktemp("gptq") / "converted")


@pytest.fixture(scope="module")
def lowered(converted, tmp_path_factory):
    return quantized(converted, PRECISION, tmp_path_factory.mktemp("gptq") / "lowered", CALIBRATION)


def drawn(rows=48, width=96):
    """A matrix, and activations of which neighbours go together."""
    random = np.random.default_rng(1)
    base = random.normal(0, 1, (400, width // 4))
    return (
        random.normal(0, 0.1, (rows, width)).astype(np.float32),
        (np.repeat(base, 4, axis=1) + random.normal(0, 0.3, (400, width))).astype(np.float32),
    )


def lost(matrix, activations, found):
    levels, scale = found
    return float(np.square(activations @ (matrix - levels * integers.per_element(scale, matrix.shape[1])).T).sum())


@pytest.mark.parametrize("width", [96, 80])
def test_less_is_lost_of_the_result_than_by_nearest_levels(width):
    matrix, activations = drawn(width=width)
    moment = activations.T @ activations / len(activations)
    found = gptq.rounded(matrix, moment, gptq.spread(moment))
    nearest = integers.blocks(matrix)
    assert lost(matrix, activations, found) < 0.6 * lost(matrix, activations, nearest)
    off = np.abs(found[0] - matrix / integers.per_element(found[1], width))
    assert 0.5 < off.max() <= gptq.WITHIN + 1e-4
    assert (found[0].min(), found[0].max()) >= (integers.LOWEST, 0)


def test_scales_lose_less_where_activations_are_large_and_never_more_in_all():
    matrix, activations = drawn()
    counts = np.square(activations * np.where(np.arange(96) % 7, 1, 9)).mean(axis=0).astype(np.float32)

    def weighed(found):
        levels, scale = found
        return float((np.square(matrix - levels * integers.per_element(scale, 96)) * counts).sum())

    assert weighed(gptq.nearest(matrix, counts)) < 0.95 * weighed(integers.blocks(matrix))


def test_a_decoder_is_lowered_whole_its_table_once_and_nothing_is_beyond(lowered, converted):
    found, _ = compare_structure("onnx-cpu", converted, lowered)
    assert found["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    model = graph.load(lowered / graph.MODEL)
    stored = [item for item in model.graph.initializer if WORDS in item.dims and item.data_type == 2]
    assert [len(item.raw_data) for item in stored] == [WORDS * WIDTH // 2]
    assert len(model.graph.output) == 3


def test_a_weight_that_moved_further_is_beyond(lowered, converted, tmp_path):
    def move(model, values):
        stored = values[f"{TABLE}_quantized"].copy()
        stored.reshape(-1)[:16] ^= 0x88  # eight levels
        values[f"{TABLE}_quantized"] = stored

    found, _ = compare_structure("onnx-cpu", converted, altered(lowered, tmp_path / "moved", move))
    assert found["values"]["weights_beyond_count"] > 16


def test_activations_are_those_of_all_tokens_the_heads_too(converted):
    model = graph.load(converted / graph.MODEL)
    before = model.SerializeToString(deterministic=True)
    found = gptq.moments(model, ["layers.0.result", "last_position"], CALIBRATION)
    assert np.linalg.matrix_rank(found["last_position"]) <= len(CALIBRATION["input_ids"])
    assert np.linalg.matrix_rank(found["layers.0.result"]) > len(CALIBRATION["input_ids"])
    assert np.trace(found["layers.0.result"]) == pytest.approx(WIDTH, rel=0.01)  # it is normalised
    assert model.SerializeToString(deterministic=True) == before


def test_it_asks_for_texts(converted, tmp_path):
    nothing = {name: values * 0 for name, values in CALIBRATION.items()}
    with pytest.raises(InputError, match="the calibration split is empty"):
        quantized(converted, PRECISION, tmp_path / "out", nothing)
