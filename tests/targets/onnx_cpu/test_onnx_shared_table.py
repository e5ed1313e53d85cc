"""A table that words are looked up in and that the head multiplies by is stored once, and held to both."""

import shutil

import numpy as np
import pytest

from stages.core import artifact
from stages.models.families.decoder import Decoder, Layer, Linear, Norm
from stages.schema.task import Task
from stages.schema.variant import Dynamic, OnnxCpu, WeightOnly
from stages.targets import registry
from stages.targets.onnx_cpu import decoder, graph, integers, saturation, structure, weights
from stages.targets.onnx_cpu.quantize import quantize
from stages.targets.stored import QUANTIZATION, compare_structure
from stages.tasks.generate.interface import CALLS

pytestmark = pytest.mark.target
TARGET = OnnxCpu(name="onnx-cpu", opset=20)
TASK = Task(name="generate", max_length=16, sequence_lengths=[16])
WORDS, WIDTH = 90, 64
PRECISIONS = {
    "four": Dynamic(kind="dynamic", weight_bits=4, granularity="block_32"),
    "four, floats": WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32"),
    "eight": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
    "eight, one scale": Dynamic(kind="dynamic", weight_bits=8, granularity="tensor"),
}
TABLE = "embed_tokens.weight"


def written(out, width=WIDTH, context=16):
    """A tied LLaMA of one layer, converted."""
    random = np.random.default_rng(2)

    def linear(name, rows, columns):
        return Linear(f"{name}.weight", random.normal(0, 0.2, (rows, columns)).astype(np.float32))

    def norm(name):
        return Norm(f"{name}.weight", np.ones(width, np.float32))

    parts = {name: linear(f"layers.0.{name}", width, width) for name in ("query", "key", "value", "output", "up")}
    layer = Layer(
        attention_norm=norm("first"),
        ffn_norm=norm("second"),
        gate=None,
        down=linear("layers.0.down", width, width),
        **parts,
    )
    model = Decoder(
        heads=2, groups=2, head_size=width // 2, context=context, padding=None, epsilon=1e-5, norm_first=True,
        activation="relu", frequencies=np.float32(1) / 10 ** np.arange(width // 4, dtype=np.float32),
        words=random.normal(0, 1, (WORDS, width)).astype(np.float32), words_name=TABLE, positions=None,
        positions_name="", layers=(layer,), norm=norm("last"), head=None,
    )  # fmt: skip
    out.mkdir()
    decoder.convert(model, CALLS, TASK, TARGET, out)
    return out


def quantized(converted, precision, out, calibration=None):
    out.mkdir()
    artifact.write_json(out / QUANTIZATION, quantize(converted, precision, calibration or {}, TARGET, out))
    return out


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return written(tmp_path_factory.mktemp("shared") / "converted")


@pytest.fixture(scope="module")
def artifacts(converted, tmp_path_factory):
    place = tmp_path_factory.mktemp("lowered")
    return {name: quantized(converted, precision, place / name) for name, precision in PRECISIONS.items()}


def altered(directory, out, change):
    """A copy of an artifact with its model changed."""
    from onnx import numpy_helper

    shutil.copytree(directory, out)
    model = graph.load(out / graph.MODEL)
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    change(model, values)
    graph.replace_initializers(model.graph, [numpy_helper.from_array(value, name) for name, value in values.items()])
    graph.write(model, out / graph.MODEL)
    return out


def tables(directory):
    """Bytes of every initialiser that has a row or a column for each word."""
    model = graph.load(directory / graph.MODEL)
    found = [len(item.raw_data) for item in model.graph.initializer if WORDS in item.dims and len(item.dims) > 1]
    return sorted(found, reverse=True)


def first_logits(directory, level):
    """What follows six tokens, in a session of ONNX Runtime's at this level of optimisation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads, options.log_severity_level = level, 1, 3
    session = onnxruntime.InferenceSession(directory / graph.MODEL, options, providers=["CPUExecutionProvider"])
    given = {"input_ids": np.arange(6, dtype=np.int64)[None], "attention_mask": np.ones((1, 6), np.int64)}
    for item in session.get_inputs():
        if item.name.startswith(graph.PAST_VALUES):
            given[item.name] = np.zeros([size if isinstance(size, int) else 0 for size in item.shape], np.float32)
    return session.run(["logits"], given)[0][0, -1]


def answers(directory):
    session = registry.runtime("onnx-cpu").open_runtime(directory, 1)
    state = session.new_state()
    ids = np.arange(12, dtype=np.int32)[None]
    return np.concatenate(
        [session.run("decode", {"input_ids": ids[:, at : at + 1]}, state)["logits"][0] for at in range(12)]
    )


@pytest.mark.parametrize("name", PRECISIONS)
def test_it_is_stored_once_read_whole_and_answers(name, artifacts, converted):
    directory, bits = artifacts[name], 4 if "four" in name else 8
    table, *scales = tables(directory)
    assert (table, sum(scales) <= WORDS * 2 * 4) == (WORDS * WIDTH * bits // 8, True)
    found, _ = compare_structure("onnx-cpu", converted, directory)
    assert found["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    (table,) = [value for value in weights.weights(directory).values() if value.shape == (WORDS, WIDTH)]
    wanted = weights.weights(converted)[TABLE]
    assert np.corrcoef(table.ravel(), wanted.ravel())[0, 1] > (0.98 if bits == 4 else 0.999)
    expected = answers(converted)
    assert np.corrcoef(answers(directory).ravel(), expected.ravel())[0, 1] > (0.9 if bits == 4 else 0.995)


def test_scales_of_blocks_take_two_bytes_and_four_where_two_would_lose_digits():
    matrix = np.random.default_rng(0).normal(0, 1, (8, 64)).astype(np.float32)
    levels, scale = integers.blocks(matrix, halves=True)
    assert integers.stored_scale(scale).dtype == np.float16
    assert np.abs(levels * integers.per_element(scale, 64) - matrix).max() <= np.abs(scale).max()
    assert (np.abs(scale) >= np.abs(matrix).reshape(8, 2, 32).max(axis=2) / 8).all()  # no level beyond the last
    for size in (1e-6, 1e6):
        _, scale = integers.blocks(matrix * np.float32(size), halves=True)
        assert integers.stored_scale(scale).dtype == np.float32
        assert np.allclose(np.abs(scale) * 8, np.abs(matrix * size).reshape(8, 2, 32).max(axis=2))


@pytest.mark.parametrize("name", PRECISIONS)
def test_answers_do_not_hang_on_what_a_runtime_does_when_it_opens_the_model(name, artifacts):
    import onnxruntime

    found = []
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ):
        found.append(first_logits(artifacts[name], level))
    assert np.abs(found[0] - found[1]).max() < 1e-4 * np.ptp(found[0])


@pytest.mark.parametrize(("context", "rows"), [(16, 16), (5000, decoder.REACH)])
def test_positions_are_turned_as_far_as_a_text_may_reach_and_not_to_the_end_of_a_long_context(context, rows, tmp_path):
    model = graph.load(written(tmp_path / "converted", context=context) / graph.MODEL)
    assert [next(iter(item.dims)) for item in model.graph.initializer if item.name == "cosine"] == [rows]


def test_a_table_no_block_of_which_fits_a_row_is_stored_for_each(tmp_path):
    converted = written(tmp_path / "converted", width=48)
    directory = quantized(converted, PRECISIONS["four"], tmp_path / "four")
    assert sum(size >= WORDS * 48 // 2 for size in tables(directory)) == 2
    found, _ = compare_structure("onnx-cpu", converted, directory)
    assert found["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}


@pytest.mark.parametrize("name", PRECISIONS)
def test_an_element_that_moved_is_beyond_rounding_in_both_places(name, artifacts, converted, tmp_path):
    stored = f"{TABLE}_quantized"

    def move(model, values):
        values[stored] = values[stored].copy()
        values[stored].reshape(-1)[7] ^= 0x40 if "eight" in name else 0x44

    directory = altered(artifacts[name], tmp_path / "moved", move)
    found, _ = compare_structure("onnx-cpu", converted, directory)
    assert found["values"]["weights_beyond_count"] >= 2


@pytest.mark.parametrize(("name", "level"), [("four", 1), ("four, floats", 4)])
def test_activations_of_another_type_than_asked_are_a_difference(name, level, artifacts, converted, tmp_path):
    def set_level(model, values):
        node = next(node for node in model.graph.node if node.op_type == "MatMulNBits")
        next(item for item in node.attribute if item.name == "accuracy_level").i = level

    directory = altered(artifacts[name], tmp_path / "other", set_level)
    found, _ = compare_structure("onnx-cpu", converted, directory)
    assert found["values"]["structure_difference_count"] > 0


def test_a_turned_table_that_could_overflow_is_seen(artifacts, tmp_path):
    def enlarge(model, values):
        values[f"{TABLE}_quantized"] = np.full_like(values[f"{TABLE}_quantized"], 127)

    model = graph.load(altered(artifacts["eight"], tmp_path / "large", enlarge) / graph.MODEL)
    assert [saturation.can_clip(levels) for _, levels in saturation._signed_products(model)].count(True) == 1
    assert structure.read(artifacts["eight"])
